from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_runs import SCENES, Watcher, small_recipe

import kdcam
from kdcam.data.batches.batch import Batch
from kdcam.data.dataset_parts import DataSummary
from kdcam.errors import CheckpointError, DataError, ModelError, RecipeError
from kdcam.losses.kd import KdConfig
from kdcam.losses.loss import Objective, Shapes, Step
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.recipe_fields import TeacherConfig
from kdcam.recipe.train_recipe import read_recipe
from kdcam.runs.checkpoint import load_classifier, save_model
from kdcam.training.engine import Teacher
from kdcam.training.teachers.cached_teacher import CachedTeacher
from kdcam.training.teachers.live_teacher import (
    LiveTeacher,
    check_teacher_scores,
    live_classifiers,
    load_teacher,
)

KD = [{"name": "cross_entropy"}, {"name": "kd"}]
TEN = tuple(str(digit) for digit in range(10))
SUMMARY = DataSummary(TEN, 3, 32, None, "", False)


def repdistiller_file(folder: Path, name: str = "resnet8", classes: int = 10, channels: int = 3) -> Path:
    """Write a checkpoint as HobbitLong/RepDistiller does."""
    torch.manual_seed(0)
    network = build_classifier(
        ModelConfig(name=f"kdcam:{name}"), num_classes=classes, in_channels=channels, image_size=32
    ).network
    path = folder / f"{name}_vanilla" / "ckpt_epoch_240.pth"
    path.parent.mkdir(parents=True)
    state = {"opt": Namespace(model=name), "epoch": 240, "model": network.state_dict(), "optimizer": {}}
    torch.save(state, path)
    return path


def load(checkpoint: object, **keys: Any) -> kdcam.Classifier:
    return load_teacher(TeacherConfig(checkpoint=str(checkpoint), **keys), SUMMARY, fetches=False)


def test_a_repdistiller_file_tells_its_network_by_its_folder(tmp_path: Path) -> None:
    path = repdistiller_file(tmp_path)
    teacher = load(path)
    assert not teacher.training
    assert teacher.config.name == "kdcam:resnet8"
    assert teacher.preprocessing.mean == (0.5071, 0.4867, 0.4408)
    assert teacher.label_names == ()
    (note,) = teacher.notes
    assert "normalised with mean 0.5071, 0.4867, 0.4408 and std" in note
    assert "set teacher.mean and teacher.std if it was trained with others" in note
    started = build_classifier(
        ModelConfig(name="kdcam:resnet8", weights=str(path)), num_classes=10, in_channels=3, image_size=32
    )
    assert started.preprocessing == teacher.preprocessing
    state = torch.load(path, weights_only=False)["model"]
    torch.testing.assert_close(dict(teacher.network.state_dict()), dict(state))


def test_a_file_elsewhere_needs_the_networks_name(tmp_path: Path) -> None:
    path = repdistiller_file(tmp_path).rename(tmp_path / "best.pth")
    with pytest.raises(CheckpointError, match=r"set teacher.name, as in"):
        load(path)
    teacher = load(path, name="kdcam:resnet8", mean=(0.5,), std=(0.25,))
    assert teacher.preprocessing.std == (0.25, 0.25, 0.25)
    assert teacher.notes == ()
    assert load(path, name="kdcam:resnet8").preprocessing.mean == (0.5071, 0.4867, 0.4408)
    with pytest.raises(CheckpointError, match=r"^teacher.checkpoint: .*does not fit teacher.name: "):
        load(path, name="kdcam:resnet14")
    with pytest.raises(ModelError, match=r"^teacher.name: there is no network 'kdcam:resnet9'"):
        load(path, name="kdcam:resnet9")
    with pytest.raises(ModelError, match=r"^teacher.mean: found 2 numbers for images of 3 channel"):
        load(path, name="kdcam:resnet8", mean=(0.5, 0.5))
    with pytest.raises(RecipeError, match=r"teacher.std\[1\]: found 0.0; must be greater than 0"):
        read_recipe(
            {"data": SCENES, "loss": KD, "teacher": {"checkpoint": "x", "std": [1.0, 0.0]}}, source="x"
        )
    with pytest.raises(RecipeError, match=r"teacher.mean: found .* at least 1 item"):
        read_recipe({"data": SCENES, "loss": KD, "teacher": {"checkpoint": "x", "mean": []}}, source="x")


def test_images_of_one_channel_are_normalised_with_the_mean_of_the_colours(tmp_path: Path) -> None:
    path, grey = repdistiller_file(tmp_path, channels=1), SUMMARY._replace(channels=1)
    assert grey.channels == 1
    config = TeacherConfig(checkpoint=str(path))
    found = load_teacher(config, grey, fetches=False).preprocessing
    assert found.mean == pytest.approx(((0.5071 + 0.4867 + 0.4408) / 3,))
    moved = path.rename(tmp_path / "best.pth")
    config = TeacherConfig(checkpoint=str(moved), name="kdcam:resnet8")
    assert load_teacher(config, grey, fetches=False).preprocessing == found


def test_other_networks_have_the_statistics_of_their_source(tmp_path: Path) -> None:
    network = build_classifier(ModelConfig(name="resnet10t"), num_classes=10, in_channels=3, image_size=32)
    folder = tmp_path / "vgg13_mine"  # as RepDistiller might name one of its own
    folder.mkdir()
    torch.save(network.network.state_dict(), folder / "best.pth")
    teacher = load(folder / "best.pth", name="resnet10t")
    assert teacher.preprocessing.mean == (0.485, 0.456, 0.406)
    assert "mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225" in teacher.notes[0]


def test_a_torch_file_beside_a_config_is_read_as_a_file_alone(tmp_path: Path) -> None:
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8", mean=(0.3,), std=(0.2,)),
        num_classes=10,
        in_channels=3,
        image_size=32,
    )
    save_model(tmp_path, classifier)
    torch.save(classifier.network.state_dict(), tmp_path / "best.pth")
    teacher = load(tmp_path / "best.pth", name="kdcam:resnet8")
    assert teacher.preprocessing.mean == pytest.approx((0.3, 0.3, 0.3))
    with pytest.raises(CheckpointError, match=r"best.pth does not say which network.*set teacher.name"):
        load(tmp_path / "best.pth")


def test_a_folder_of_files_names_the_one_to_give(tmp_path: Path) -> None:
    path = repdistiller_file(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"resnet8_vanilla is a folder without config.json; .*/ckpt_epoch_240.pth"
    ):
        load(path.parent)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no config.json beside the weights"):
        load(tmp_path / "empty")


def test_a_bare_file_of_a_network_with_a_neck_asks_for_its_folder(tmp_path: Path) -> None:
    config = ModelConfig(name="kdcam:resnet8", channel_attention=True)
    save_model(tmp_path, build_classifier(config, num_classes=10, in_channels=3, image_size=32))
    (tmp_path / "config.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"^teacher.checkpoint: .* with a neck; give the run folder"
    ) as told:
        load(tmp_path / "model.safetensors", name="kdcam:resnet8")
    assert "model.channel_attention" not in str(told.value)


def test_another_class_count_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has 100 classes, the data 10.*must learn the same classes"):
        load(repdistiller_file(tmp_path, classes=100))


def test_keys_that_a_run_folder_does_not_need_are_refused(tmp_path: Path) -> None:
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8"), num_classes=10, in_channels=3, image_size=32, label_names=TEN
    )
    save_model(tmp_path, classifier)
    assert load(tmp_path).num_classes == 10
    with pytest.raises(RecipeError, match=r"teacher.name: is for a file without config.json"):
        load(tmp_path, name="kdcam:resnet8")


def test_networks_without_published_weights_are_refused() -> None:
    for name in ("kdcam:resnet56", "resnetv2_101x3_bitm"):
        for fetches in (True, False):
            with pytest.raises(ModelError, match=r"^teacher.checkpoint: .*no published weights; train it"):
                load_teacher(TeacherConfig(checkpoint=name), SUMMARY, fetches=fetches)
    with pytest.raises(ModelError, match=r"^teacher.checkpoint: there is no network 'resnet18x'"):
        load("resnet18x")
    with pytest.raises(CheckpointError, match=r"nowhere/x.pth is not there"):
        load("nowhere/x.pth")


@pytest.mark.parametrize("name", ["resnet10t", "torchvision:resnet18"])
@pytest.mark.parametrize("fetches", [True, False])
def test_published_weights_of_other_classes_are_refused_before_they_are_fetched(
    name: str, fetches: bool
) -> None:
    config = TeacherConfig(checkpoint=name)
    with pytest.raises(
        DataError, match=r"tell 1000 classes apart, and the data has 10 classes; train the network"
    ):
        load_teacher(config, SUMMARY, fetches=fetches)
    many = SUMMARY._replace(label_names=tuple(map(str, range(1000))))
    teacher = load_teacher(config, many, fetches=False)
    assert teacher.num_classes == 1000
    assert teacher.label_names == ()
    assert not teacher.training


def test_published_weights_without_a_classifier_are_refused() -> None:
    with pytest.raises(DataError, match="weights of vit_base_patch14_dinov2 have no classifier"):
        load("vit_base_patch14_dinov2")


def test_a_file_teaches_where_the_classes_names_are_known_only_when_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CIFAR-100 as torchvision hands it over, two images a class; its names stand in the files alone.
    images = torch.randint(0, 256, (200, 32, 32, 3), dtype=torch.uint8).numpy()
    cifar = SimpleNamespace(
        data=images, targets=2 * list(range(100)), classes=[f"class {i}" for i in range(100)]
    )
    monkeypatch.setattr("kdcam.data.sources.torchvision_sets.download", lambda *_, **__: cifar)
    recipe = small_recipe(
        epochs=1,
        select="last",
        data={"name": "cifar100", "root": str(tmp_path), "validation": 0.0},
        loss=KD,
        teacher={"checkpoint": str(repdistiller_file(tmp_path, classes=100))},
    )
    watcher = Watcher()
    done = kdcam.distill(recipe, output=tmp_path / "run", device="cpu", progress=watcher)
    assert load_classifier(done.path).label_names[99] == "class 99"
    assert any("ckpt_epoch_240.pth: its images are normalised with" in text for text in watcher.messages)


@pytest.mark.parametrize(
    ("accuracy", "images", "outcome"),
    [(0.9, 1000, None), (0.11, 1000, "no better than guessing"), (0.05, 1000, "refused"), (0.0, 10, "no better")],
)  # fmt: skip
def test_accuracy_is_compared_with_guessing(accuracy: float, images: int, outcome: str | None) -> None:
    if outcome == "refused":
        with pytest.raises(
            DataError, match=r"less than guessing .10.00%.: its classes may be in another order"
        ):
            check_teacher_scores("runs/t", {"acc1": accuracy}, images, 10)
        return
    warning = check_teacher_scores("runs/t", {"acc1": accuracy}, images, 10)
    assert warning is None if outcome is None else outcome in (warning or "")


def test_several_labels_are_not_judged() -> None:
    assert check_teacher_scores("runs/t", {"mean_ap": 0.01}, 1000, 10) is None


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("teachers")
    runs = [kdcam.train(small_recipe(seed=seed), output=folder / str(seed), device="cpu") for seed in (0, 1)]
    return [str(run.path) for run in runs]


def test_two_teachers_train_a_student_and_their_scores_are_told(teachers: list[str], tmp_path: Path) -> None:
    watcher = Watcher()
    recipe = small_recipe(
        loss=[*KD, {"name": "caam_cam"}], teacher=[{"checkpoint": place} for place in teachers]
    )
    done = kdcam.distill(recipe, output=tmp_path / "student", device="cpu", progress=watcher)
    assert done.result["selected"]["test"]
    told = [text for text in watcher.messages if text.startswith("teacher ")]
    assert len(told) == 2
    assert "acc1" in told[0]
    again = kdcam.distill(recipe, output=tmp_path / "student", device="cpu")
    assert again.was_finished


def test_two_equal_teachers_teach_as_one(teachers: list[str], tmp_path: Path) -> None:
    one = {"checkpoint": teachers[0]}
    alone = kdcam.distill(small_recipe(loss=KD, teacher=one), output=tmp_path / "one", device="cpu")
    twice = kdcam.distill(small_recipe(loss=KD, teacher=[one, one]), output=tmp_path / "two", device="cpu")
    assert alone.result["last"] == twice.result["last"]


def test_a_teacher_term_is_the_mean_over_teachers() -> None:
    sizes = Widths(4, None, None, None)
    shapes = Shapes("single-label", 3, torch.arange(3), sizes, sizes)
    objective = Objective([KdConfig()], shapes, shapes)
    torch.manual_seed(0)
    logits, first, second = torch.randn(5, 3), torch.randn(5, 3), torch.randn(5, 3)
    student = Outputs(logits, logits, None, None, None)
    step = Step(
        student, TeacherOutputs(logits=first), torch.zeros(5, dtype=torch.int64), torch.arange(5), 0.5
    )
    both = objective(step, [TeacherOutputs(logits=second)]).total
    single = Objective([KdConfig()], shapes)
    separate = [single(step._replace(teacher=TeacherOutputs(logits=one))).total for one in (first, second)]
    torch.testing.assert_close(both, torch.stack(separate).mean())


def test_an_empty_list_of_teachers_is_refused() -> None:
    with pytest.raises(RecipeError, match="teacher"):
        read_recipe({"data": SCENES, "loss": KD, "teacher": []}, source="x")


def test_of_a_teachers_tables_the_average_is_taken_and_told(tmp_path: Path) -> None:
    path = repdistiller_file(tmp_path)
    content = torch.load(path, weights_only=False)
    averaged = {f"model.{name}": value * 2 for name, value in content["model"].items()}
    torch.save({"state_dict": content["model"], "state_dict_ema": averaged}, path)
    teacher = load(path)
    torch.testing.assert_close(teacher.network.state_dict()["fc.weight"], averaged["model.fc.weight"])
    table, names, _ = teacher.notes
    assert table == (
        f"teacher.checkpoint: {path}: read from its table state_dict_ema, a moving average, not from state_dict"
    )
    assert names == f"teacher.checkpoint: {path}: names without 'model.', which all of them begin with"
    torch.save({"state_dict": averaged}, path)
    with pytest.raises(
        DataError, match=r"ckpt_epoch_240\.pth has 10 classes, the data 7; teacher and student"
    ):
        load_teacher(
            TeacherConfig(checkpoint=str(path)), SUMMARY._replace(label_names=tuple("abcdefg")), fetches=False
        )


def test_a_live_teacher_is_run_and_a_cached_one_is_read() -> None:
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8"), num_classes=3, in_channels=1, image_size=16
    ).eval()
    places = torch.arange(2)
    batch = Batch(torch.rand(2, 1, 16, 16), torch.zeros(2).long(), places, torch.zeros(2).long(), places)
    needs = frozenset({"teacher.logits"})
    live = LiveTeacher(classifier)
    with torch.no_grad():
        logits = classifier(batch.images)
    arrays = {"teacher.logits": (logits.half()[None],)}
    both: list[Teacher] = [live, CachedTeacher(arrays, device=torch.device("cpu"))]
    said, read = (teacher.outputs(batch, needs) for teacher in both)
    assert said.logits is not None
    assert read.logits is not None
    assert torch.equal(said.logits, logits)
    assert torch.equal(read.logits, logits.half().float())
    assert [teacher.outputs(batch, frozenset({"cam"})) for teacher in both] == 2 * [TeacherOutputs()]
    assert live_classifiers([live]) == (classifier,)
    with pytest.raises(ValueError, match="1 of 2 teachers are read and have no classifier"):
        live_classifiers(both)
