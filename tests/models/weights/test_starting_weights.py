import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from kdcam.errors import CheckpointError
from kdcam.models import Classifier, ModelConfig, Preprocessing, build_classifier


def build(name: str = "kdcam:resnet8", *, classes: int = 5, channels: int = 3, **keys: Any) -> Classifier:
    config = ModelConfig(name=name, **keys)
    return build_classifier(config, num_classes=classes, in_channels=channels, image_size=32)


def saved(folder: Path, classifier: Classifier, config: dict[str, Any] | None = None) -> Path:
    tensors = {key: value.contiguous() for key, value in classifier.network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["kdcam:resnet8", "resnet10t", "torchvision:shufflenet_v2_x0_5"])
@pytest.mark.parametrize("as_file", [True, False])
def test_weights_arrive(tmp_path: Path, name: str, as_file: bool) -> None:
    source = build(name).eval()
    place = saved(tmp_path, source)
    loaded = build(name, weights=str(place / "model.safetensors" if as_file else place)).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(source.network(images), loaded.network(images))
    assert loaded.notes == ()


@pytest.mark.parametrize("name", ["kdcam:resnet8", "resnet10t", "torchvision:shufflenet_v2_x0_5"])
def test_a_head_of_another_class_count_starts_afresh(tmp_path: Path, name: str) -> None:
    source = build(name, classes=9)
    loaded = build(name, weights=str(saved(tmp_path, source)))
    assert loaded.notes == ("model.weights has 9 classes, the data 5: the classifier starts afresh",)
    assert loaded.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 5)
    for key, value in loaded.network.state_dict().items():
        if not key.startswith("fc."):
            assert torch.equal(value, source.network.state_dict()[key]), key


@pytest.mark.parametrize(
    ("config", "statistics"),
    [
        ({"kdcam": {"mean": [0.1], "std": [0.9]}}, Preprocessing((0.1,) * 3, (0.9,) * 3)),
        (
            {"pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}},
            Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        ),
        ({"architecture": "resnet8"}, Preprocessing((0.5,) * 3, (0.25,) * 3)),
        (None, Preprocessing((0.5,) * 3, (0.25,) * 3)),
    ],
)
def test_statistics_come_with_the_weights(
    tmp_path: Path, config: dict[str, Any] | None, statistics: Preprocessing
) -> None:
    place = saved(tmp_path, build(), config)
    found = build(weights=str(place)).preprocessing
    assert found.mean == pytest.approx(statistics.mean)
    assert found.std == pytest.approx(statistics.std)
    assert build(weights=str(place), mean=(0.7,), std=(0.8,)).preprocessing.mean == (0.7,) * 3


def test_a_folders_name_tells_statistics_of_kdcams_networks_alone(tmp_path: Path) -> None:
    folder = tmp_path / "vgg13_mine"
    folder.mkdir()
    for name, mean in (("kdcam:vgg8", 0.5071), ("resnet10t", 0.485)):
        torch.save(build(name).network.state_dict(), folder / "best.pth")
        assert build(name, weights=str(folder / "best.pth")).preprocessing.mean[0] == mean


def test_timms_own_statistics_where_the_folder_has_none(tmp_path: Path) -> None:
    place = saved(tmp_path, build("resnet10t"))
    assert build("resnet10t", weights=str(place)).preprocessing.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("stored", "wanted", "message"),
    [
        ("kdcam:resnet8", "kdcam:resnet14", r"'layer1\.1\..*' is missing"),
        ("kdcam:resnet14", "kdcam:resnet8", r"'layer1\.1\..*' is not part of it"),
        ("kdcam:resnet8", "kdcam:resnet8x4", r"'conv1\.weight' is 16x3x3x3, expected 32x3x3x3"),
    ],
)
def test_weights_of_another_network(tmp_path: Path, stored: str, wanted: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        build(wanted, weights=str(saved(tmp_path, build(stored))))


def test_weights_of_another_channel_count(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'conv1\.weight' is 16x3x3x3, expected 16x1x3x3"):
        build(channels=1, weights=str(saved(tmp_path, build())))


def test_places_that_hold_no_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no file .*nowhere.*model\.safetensors"):
        build(weights=str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="there is no file"):
        build(weights=str(tmp_path))
    (tmp_path / "old.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="pickle"):
        build(weights=str(tmp_path / "old.pth"))
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        build(weights=str(tmp_path))


def test_a_config_that_cannot_be_read(tmp_path: Path) -> None:
    place = saved(tmp_path, build())
    (place / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json, line 1: is no JSON"):
        build(weights=str(place))
