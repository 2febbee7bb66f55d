from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SCENES, small_recipe

from kdcam.data.datasets import load_data
from kdcam.errors import CheckpointError, DataError, KdcamError, ModelError, RecipeError
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.methods import method_losses
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe
from kdcam.runs.checkpoint import save_model
from kdcam.training.assembly import assemble
from kdcam.training.engine import train_step
from kdcam.training.preflight import preflight

KD = [{"name": "cross_entropy"}, {"name": "kd"}, {"name": "caam_cam"}]
DIGITS = [str(digit) for digit in range(10)]


def teacher(
    folder: Path, *, names: list[str] = DIGITS, channels: int = 1, network: str = "kdcam:resnet8"
) -> str:
    folder.mkdir()
    config = ModelConfig(name=network)
    save_model(
        folder,
        build_classifier(
            config, num_classes=len(names), in_channels=channels, image_size=16, label_names=names
        ),
    )
    return str(folder)


def student_of(checkpoint: str, **changes: Any) -> TrainRecipe:
    return small_recipe(loss=KD, teacher={"checkpoint": checkpoint}, **changes)


def test_good_recipe_gives_student_and_teacher_and_leaves_the_generator_alone(tmp_path: Path) -> None:
    checkpoint = teacher(tmp_path / "teacher")
    before = torch.get_rng_state()
    checked = preflight(student_of(checkpoint), device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    (taught,) = checked.teachers
    assert not taught.training
    assert checked.student.num_classes == 10


def test_seed_decides_the_random_weights() -> None:
    one, again, other = (
        preflight(small_recipe(seed=seed), device="cpu").student.network.state_dict()["conv1.weight"]
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        (
            {"model": {"name": "mobilenetv3_small_050"}, "data": {**SCENES, "image_size": 64}},
            ModelError,
            r"'mobilenetv3_small_050' has no exact class activation map.*kdcam:resnet20",
        ),
        ({"model": {"name": "kdcam:resnet21"}}, ModelError, r"resnet21.*resnet20"),
        (
            {"optimizer": {"name": "adamx", "lr": 0.1}},
            RecipeError,
            r"optimizer.name: found 'adamx'.*did you mean",
        ),
        (
            {"optimizer": {"name": "lion", "lr": 0.1, "options": {"betass": 1}}},
            RecipeError,
            "optimizer.options.*lion.*betass",
        ),
        (
            {"schedule": {"name": "poly", "options": {"decay_rates": 1}}},
            RecipeError,
            "schedule.options.*decay_rates.*did you mean .decay_rate",
        ),
        ({"precision": "fp16"}, RecipeError, 'precision: "fp16" needs a CUDA device'),
        ({"data": {**SCENES, "train_size": 20, "validation": 0.01}}, DataError, "validation"),
        ({"data": {"name": "digits"}}, ModelError, "1 x 1 on images of 8 pixels.*data.image_size"),
        (
            {
                "model": {"name": "dla46x_c"},
                "loss": [{"name": "lsoftmax"}],
                "data": {**SCENES, "image_size": 64},
            },
            ModelError,
            "classifier of 'dla46x_c' is no single linear layer, and a loss of the recipe reads its weights",
        ),
        (
            {"loss": [{"name": "gradient_boosting_cross_entropy"}]},
            RecipeError,
            "negatives = 15 with 10 classes leaves no wrong class out.*negatives = 8 at most",
        ),
    ],
    ids=[
        "no-cam",
        "network",
        "optimizer",
        "optimizer-option",
        "schedule-option",
        "fp16",
        "split",
        "map",
        "classifier-weight",
        "misfit",
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], error: type[KdcamError], match: str) -> None:
    with pytest.raises(error, match=match):
        preflight(small_recipe(**changes), device="cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:", "tpu"])
def test_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(RecipeError, match="--device"):
        preflight(small_recipe(), device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"--device cuda: not available to torch here; available: auto, cpu"
    ):
        preflight(small_recipe(), device="cuda")


@pytest.mark.parametrize(
    ("made", "error", "match"),
    [
        ({"names": DIGITS[:9]}, DataError, "has 9 classes, the data has 10"),
        ({"channels": 3}, DataError, "reads images of 3 channels, the data has 1"),
        ({"network": "mobilenetv3_small_050"}, ModelError, "has no exact class activation map"),
    ],
    ids=["count", "channels", "cam"],
)
def test_teacher_that_does_not_fit_is_refused(
    tmp_path: Path, made: dict[str, Any], error: type[KdcamError], match: str
) -> None:
    checkpoint = teacher(tmp_path / "teacher", **made)
    with pytest.raises(error, match=match):
        preflight(student_of(checkpoint), device="cpu")


@pytest.mark.parametrize(
    ("method", "refused"),
    [
        ("similarity_preserving", False),
        ("vid", False),
        ("review_kd", False),
        ("fitnet", False),
        ("attention_transfer", True),
        ("nst", True),
        ("caam_cam", True),
        ("explanation_match", True),
    ],
)
def test_a_last_map_of_one_place_serves_losses_that_compare_channels(
    tmp_path: Path, method: str, refused: bool
) -> None:
    # Four halvings leave 1 x 1 of 8 pixels; the maps before are larger.
    config = {"loss": method_losses(method), "data": {"name": "digits"}, "epochs": 1}
    config |= {"teacher": {"checkpoint": teacher(tmp_path / "teacher", network="kdcam:resnet8_s2")}}
    if refused:
        with pytest.raises(ModelError, match=rf"1 x 1 on images of 8 pixels.*read places: {method};"):
            preflight(small_recipe(**config), device="cpu")
        return
    checked = preflight(small_recipe(**config), device="cpu")
    assert (checked.student_widths.height, checked.teacher_widths[0].height) == (1, 1)
    plan, state = assemble(checked, load_data(checked.recipe.data))
    state.model.train()
    state.position.epoch = plan.epochs  # past the warm-up
    terms = train_step(plan, state, next(iter(plan.train.epoch(0))))
    assert torch.isfinite(terms.total)


def test_errors_about_a_teachers_network_name_the_teacher(tmp_path: Path) -> None:
    checkpoint = teacher(tmp_path / "teacher", network="mobilenetv3_small_050")
    with pytest.raises(ModelError, match=r"^teacher.checkpoint: 'mobilenetv3_small_050' has no exact class"):
        preflight(student_of(checkpoint), device="cpu")


def test_order_of_digits_is_checked_when_they_are_read(tmp_path: Path) -> None:
    # Digits are named by numbers, as are sources whose names are not known before they are read.
    checkpoint = teacher(tmp_path / "teacher", names=[*DIGITS[:8], "9", "8"])
    checked = preflight(student_of(checkpoint), device="cpu")
    with pytest.raises(DataError, match=r"class 8 of .* is '9', of the data '8'.*same order"):
        assemble(checked, load_data(checked.recipe.data))


def test_names_of_the_data_as_read_go_into_the_student() -> None:
    checked = preflight(small_recipe(), device="cpu")
    parts = load_data(checked.recipe.data)
    named = replace(parts, label_names=tuple("abcdefghij"))
    _, state = assemble(checked, named)
    assert state.scored.label_names == named.label_names


def test_teacher_that_is_not_there() -> None:
    with pytest.raises(CheckpointError, match=r"runs/nowhere is not there; give a run folder"):
        preflight(student_of("runs/nowhere"), device="cpu")


def test_teacher_weights_of_another_network_name_the_first_mismatch(tmp_path: Path) -> None:
    first, second = teacher(tmp_path / "a"), teacher(tmp_path / "b", network="kdcam:resnet14")
    (Path(first) / "model.safetensors").write_bytes((Path(second) / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"layer1\.1"):
        preflight(student_of(first), device="cpu")


def test_starting_weights_that_do_not_fit_are_refused_before_a_run_folder_is_made(tmp_path: Path) -> None:
    weights = teacher(tmp_path / "other", network="kdcam:resnet14")
    with pytest.raises(KdcamError, match=r"resnet8_s2|layer1"):
        preflight(small_recipe(model={"name": "kdcam:resnet8_s2", "weights": weights}), device="cpu")


def test_image_folder_without_validation_is_refused(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.new("RGB", (16, 16)).save(tmp_path / name / f"{index}.png")
    table = {"data": {"name": "image-folder", "root": str(tmp_path), "image_size": 16, "validation": 0.0}}
    with pytest.raises(RecipeError, match=r"no validation part of its own.*validation = 0.1.*select"):
        preflight(read_recipe(table, source="photos"), device="cpu")


def test_teacher_of_named_classes_in_another_order_is_refused_before_any_work(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (16, 16)).save(tmp_path / "photos" / name / f"{index}.png")
    checkpoint = teacher(tmp_path / "teacher", names=["dog", "cat"], channels=3)
    data = {"name": "image-folder", "root": str(tmp_path / "photos"), "image_size": 16, "validation": 0.3}
    with pytest.raises(DataError, match=r"class 0 of .* is 'dog', of the data 'cat'.*same order"):
        preflight(student_of(checkpoint, data=data), device="cpu")


def test_a_student_no_cheaper_than_its_teacher_is_told_of(tmp_path: Path) -> None:
    small = teacher(tmp_path / "small", network="kdcam:resnet8_s2")
    [warning] = preflight(student_of(small, model={"name": "kdcam:resnet8"}), device="cpu").warnings
    assert "the student kdcam:resnet8 is not cheaper than its teacher" in warning
    assert "0.0778 M parameters and 3.05 M multiply-adds of the student" in warning
    assert "0.0778 M parameters and 0.764 M multiply-adds of the teacher at 16 pixels" in warning
    large = teacher(tmp_path / "large", network="kdcam:resnet14_s2")
    assert preflight(student_of(large), device="cpu").warnings == ()
    both = small_recipe(loss=KD, teacher=[{"checkpoint": small}, {"checkpoint": large}])
    [warning] = preflight(both, device="cpu").warnings  # small is the student's own network
    assert small in warning
