from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SCENES, Watcher, small_recipe

import kdcam
from kdcam.checkpoint import save_model
from kdcam.data.datasets import DataSummary
from kdcam.errors import CheckpointError, DataError, ModelError, RecipeError
from kdcam.losses.kd import KdConfig
from kdcam.losses.loss import Objective, Shapes, Step, Widths
from kdcam.models.build import ModelConfig, build_classifier
from kdcam.models.classifier import Outputs, TeacherOutputs
from kdcam.recipe import TeacherConfig, read_recipe
from kdcam.teachers import check_teacher_scores, load_teacher

KD = [{"name": "cross_entropy"}, {"name": "kd"}]
TEN = tuple(str(digit) for digit in range(10))
SUMMARY = DataSummary(TEN, 3, 32, None, "", False)


def repdistiller_file(folder: Path, name: str = "resnet8", classes: int = 10) -> Path:
    """Write a checkpoint as HobbitLong/RepDistiller does."""
    torch.manual_seed(0)
    network = build_classifier(
        ModelConfig(name=f"kdcam:{name}"), num_classes=classes, in_channels=3, image_size=32
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
    with pytest.raises(CheckpointError, match="does not fit"):
        load(path, name="kdcam:resnet14")


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
    with pytest.raises(ModelError, match="no published weights; train it"):
        load_teacher(TeacherConfig(checkpoint="kdcam:resnet56"), SUMMARY, fetches=True)
    assert load("resnet10t").num_classes == 10
    with pytest.raises(CheckpointError, match=r"nowhere/x.pth is not there"):
        load("nowhere/x.pth")


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
