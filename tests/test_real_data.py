"""The example recipes on the real files beside a checkout, cut to some images; skipped where they are not."""

import io
import tarfile
import tomllib
from pathlib import Path

import pytest
from conftest import SHARED_DATA

import kdcam
from kdcam.data.folder_contents import MachineFacts, measure_folder
from kdcam.runtime.progress import Silent
from kdcam.training.recipe_advice import advise, recipe_lines


def unpack_some(archive: Path, folder: Path, limits: dict[str, tuple[int, int]]) -> Path:
    """Unpack, of each part (train, test ...), so many classes with so many files each; return the top folder."""
    taken: dict[tuple[str, str], int] = {}
    classes: dict[str, set[str]] = {part: set() for part in limits}
    with tarfile.open(archive) as tar:
        for member in tar:
            pieces = member.name.split("/")
            if not member.isfile() or len(pieces) != 4 or pieces[1] not in limits:
                continue
            top, part, label, name = pieces
            most_classes, most_files = limits[part]
            if label not in classes[part]:
                if len(classes[part]) == most_classes:
                    continue
                classes[part].add(label)
            if taken.get((part, label), 0) == most_files:
                continue
            taken[part, label] = taken.get((part, label), 0) + 1
            place = folder / top / part / label / name
            place.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            place.write_bytes(io.BytesIO(content.read()).getvalue())
    return folder / top


def needs(name: str) -> Path:
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not beside this checkout")
    return path.resolve()


def train(recipe: str, root: Path, output: Path, *overrides: str) -> dict[str, object]:
    changes = ["epochs=1", "schedule.warmup_epochs=0", f'data.root="{root.as_posix()}"', *overrides]
    result: dict[str, object] = kdcam.train(
        kdcam.load_recipe(recipe, changes), output=output, device="cpu"
    ).result
    return result


def test_mnist_idx_files(tmp_path: Path) -> None:
    root = needs("mnist")
    result = train(
        "examples/mnist", root, tmp_path / "run", "data.validation=0.97", "model.name=kdcam:resnet8_s2"
    )
    assert result["images"] == {"train": 1800, "validation": 58200, "test": 10000}


def test_cifar10_as_an_image_folder(tmp_path: Path) -> None:
    archive = needs("cifar10-jpg.tar.xz")
    root = unpack_some(archive, tmp_path, {"train": (10, 20), "test": (10, 4)})
    result = train(
        "examples/cifar10-folder", root, tmp_path / "run", "batch_size=32", "model.name=kdcam:resnet8"
    )
    assert result["images"] == {"train": 180, "validation": 20, "test": 40}
    assert len(result["label_names"]) == 10  # type: ignore[arg-type]


def test_tiny_imagenet_as_an_image_folder(tmp_path: Path) -> None:
    archive = needs("tiny-imagenet32-100.tar.xz")
    root = unpack_some(archive, tmp_path, {"train": (100, 5), "val": (100, 2)})
    result = train(
        "examples/tiny-imagenet32-folder", root, tmp_path / "run", "data.test=0.2", "model.name=kdcam:resnet8"
    )
    assert result["images"] == {"train": 400, "validation": 200, "test": 100}


def test_a_first_recipe_for_several_labels_learns(tmp_path: Path) -> None:
    """What ``kdcam recipes new`` writes, cut to 4 epochs: never saying anything at all has an nll of 0.69."""
    with tarfile.open(needs("coco256-multilabel.tar")) as tar:
        tar.extractall(tmp_path, filter="data")
    facts = measure_folder(tmp_path / "coco256-multilabel", progress=Silent())
    machine = MachineFacts(cores=2, gpu=None)
    advice = advise(facts, machine)
    assert (advice.batch_size, advice.learning_rate) == (8, 0.0125)
    table = tomllib.loads("\n".join(recipe_lines(facts, machine, advice)))
    recipe = kdcam.TrainRecipe.model_validate({**table, "epochs": 4})
    result = kdcam.train(recipe, output=tmp_path / "run", device="cpu").result
    assert result["images"]["validation"] == 128
    assert result["selected"]["validation"]["nll"] < 0.5
