import re
import tomllib
from pathlib import Path

import pytest

from kdcam.data.folder_contents import FolderFacts, MachineFacts
from kdcam.data.source_configs import ImageFolderConfig, ImageLabelsConfig, YoloLabelsConfig
from kdcam.data.splits.held_out import held_out_counts
from kdcam.models import ModelConfig, build_classifier
from kdcam.models.inspection import cost
from kdcam.recipe.train_recipe import read_recipe
from kdcam.training.recipe_advice import advise, notes, recipe_lines

LAPTOP = MachineFacts(cores=2, gpu=None)
SERVER = MachineFacts(cores=64, gpu=None)
GPU = MachineFacts(cores=16, gpu="Some GPU")


def folder(**changes: object) -> FolderFacts:
    facts = FolderFacts(
        config=ImageFolderConfig(root=Path("/photos")),
        label_names=("cat", "dog"),
        train_counts=(500, 500),
        images=1000,
        own_validation=None,
        own_test=None,
        short_sides=(400,) * 9,
        is_gray=False,
        unreadable=(),
    )
    facts = facts._replace(**changes)
    return facts if "images" in changes else facts._replace(images=sum(facts.train_counts))


@pytest.mark.parametrize(
    ("side", "machine", "size"),
    [(400, LAPTOP, 64), (400, SERVER, 128), (400, GPU, 224), (32, GPU, 32), (10, GPU, 32), (100, GPU, 96)],
)
def test_image_size_fits_pictures_and_machine(side: int, machine: MachineFacts, size: int) -> None:
    assert advise(folder(short_sides=(side,)), machine).image_size == size


@pytest.mark.parametrize(
    ("counts", "machine", "network"),
    [
        ((500, 500), LAPTOP, "kdcam:resnet20_s2"),
        ((500, 500), GPU, "resnet18"),
        ((20_000, 20_000), GPU, "resnet50"),
        ((20_000, 20_000), SERVER, "resnet18"),
    ],
)
def test_network(counts: tuple[int, ...], machine: MachineFacts, network: str) -> None:
    assert advise(folder(train_counts=counts), machine).network == network


@pytest.mark.parametrize(("count", "epochs", "batch_size"), [(20, 100, 8), (500, 100, 32), (50_000, 10, 64)])
def test_epochs_and_batch(count: int, epochs: int, batch_size: int) -> None:
    advice = advise(folder(train_counts=(count, count)), LAPTOP)
    assert (advice.epochs, advice.batch_size) == (epochs, batch_size)
    assert advice.learning_rate == pytest.approx(0.1 * batch_size / 64, rel=1e-3)


def test_folders_of_their_own_are_not_split() -> None:
    advice = advise(folder(own_validation=30, own_test=40), LAPTOP)
    assert (advice.validation, advice.test) == (None, None)


@pytest.mark.parametrize("smallest", range(5, 40))
def test_each_class_is_held_out_where_it_can_be(smallest: int) -> None:
    facts = folder(train_counts=(500, smallest))
    advice = advise(facts, LAPTOP)
    assert advice.test is not None
    assert advice.validation is not None
    test = held_out_counts(facts.train_counts, advice.test)
    left = [count - held for count, held in zip(facts.train_counts, test, strict=True)]
    assert min(test) >= 1
    assert min(held_out_counts(left, advice.validation)) >= 1


@pytest.mark.parametrize(
    ("names", "flips"),
    [
        (("cat", "dog"), True),
        (tuple("0123456789"), False),
        (("turn_left", "turn_right"), False),
        (("bright", "dark"), True),
    ],
)
def test_no_mirror_where_it_changes_the_class(names: tuple[str, ...], flips: bool) -> None:
    facts = folder(label_names=names, train_counts=(100,) * len(names))
    assert ("flip" in advise(facts, LAPTOP).augment) is flips


def test_imbalance_and_few_pictures_are_told() -> None:
    found = " ".join(told(folder(train_counts=(900, 2))))
    assert "'cat' has 900 pictures, 'dog' 2" in found
    assert "'dog' has 2 pictures only" in found
    assert "Imbalanced" not in " ".join(told(folder()))


def told(facts: FolderFacts) -> list[str]:
    return notes(facts, LAPTOP, advise(facts, LAPTOP))


@pytest.mark.parametrize("machine", [LAPTOP, SERVER, GPU])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"is_gray": True, "short_sides": (28,)},
        {"own_validation": 30, "own_test": 40},
        {"unreadable": ("/photos/x.png: broken",), "train_counts": (3000, 4)},
        {"config": ImageFolderConfig(root=Path('/odd "name"\n\x7f \\ é')), "short_sides": (50, 96, 3000)},
        {"config": YoloLabelsConfig(root=Path("/coco"))},
        {"config": ImageLabelsConfig(root=Path("/photos"), labels=Path("labels.csv"))},
    ],
)
def test_the_recipe_is_a_recipe(machine: MachineFacts, changes: dict[str, object]) -> None:
    facts = folder(**changes)
    advice = advise(facts, machine)
    recipe = read_recipe(tomllib.loads("\n".join(recipe_lines(facts, machine, advice))), source="advice")
    assert recipe.data.name == facts.config.name
    assert recipe.data.root == facts.config.root
    assert recipe.optimizer.lr == advice.learning_rate
    assert recipe.data.image_size == advice.image_size
    assert recipe.data.augment == advice.augment
    assert recipe.model.name == advice.network
    assert recipe.epochs == advice.epochs


@pytest.mark.parametrize(
    ("changes", "machine"),
    [
        ({}, LAPTOP),
        ({"short_sides": (32,)}, LAPTOP),
        ({"short_sides": (48,)}, GPU),
        ({}, SERVER),
        ({}, GPU),
        ({"train_counts": (20_000, 20_000)}, GPU),
    ],
)
def test_the_readmes_student_is_cheaper_than_the_advised_teacher(
    changes: dict[str, object], machine: MachineFacts
) -> None:
    advice = advise(folder(**changes), machine)
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    [small, large] = re.findall(r'^name = "(kdcam:\w+)" .*: (\w+)$', text, re.MULTILINE)[0]
    student = small if advice.network.startswith("kdcam:") else large
    of_student, of_teacher = (
        cost(
            build_classifier(
                ModelConfig(name=name), num_classes=2, in_channels=3, image_size=advice.image_size
            ),
            image_size=advice.image_size,
        )
        for name in (student, advice.network)
    )
    assert of_student.parameters < of_teacher.parameters / 3
    assert of_student.operations < of_teacher.operations
