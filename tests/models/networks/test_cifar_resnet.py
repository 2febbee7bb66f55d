import pytest
import torch
from default_float64 import default_float64
from state_names import norm

from kdcam.models.networks import build_cifar
from kdcam.models.networks.cifar_resnet import CIFAR_RESNETS, FAST_RESNETS


def expected_count(name: str, num_classes: int, channels: int = 3) -> int:
    """Count by hand, layer by layer, without building anything."""
    spec = (CIFAR_RESNETS | FAST_RESNETS)[name]
    stem, *stages = spec.widths
    total = 9 * channels * stem + 2 * stem
    before = stem
    for index, width in enumerate(stages):
        total += 9 * before * width + 9 * width * width + 4 * width
        total += (spec.blocks - 1) * (18 * width * width + 4 * width)
        if index > 0 or before != width:
            total += before * width + 2 * width
        before = width
    return total + before * num_classes + num_classes


@pytest.mark.parametrize("name", [*CIFAR_RESNETS, *FAST_RESNETS])
def test_parameter_counts(name: str) -> None:
    network = build_cifar(name, num_classes=100)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected_count(name, 100)


def test_parameter_names_are_those_of_repdistiller() -> None:
    block = ["conv1.weight", *norm("bn1"), "conv2.weight", *norm("bn2")]
    shortcut = ["downsample.0.weight", *norm("downsample.1")]
    narrow = ["conv1.weight", *norm("bn1")]
    for stage in (1, 2, 3):
        narrow += [f"layer{stage}.0.{key}" for key in block + (shortcut if stage > 1 else [])]
    narrow += ["fc.weight", "fc.bias"]
    assert list(build_cifar("resnet8").state_dict()) == narrow
    wide = set(build_cifar("resnet8x4").state_dict())
    assert wide == set(narrow) | {f"layer1.0.{key}" for key in shortcut}
    assert "layer3.2.bn2.running_var" in build_cifar("resnet20").state_dict()


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("resnet8", 32, (64, 8, 8)),
        ("resnet8_s2", 48, (64, 6, 6)),
        ("resnet8w_s2", 32, (128, 4, 4)),
        ("resnet8x4", 28, (256, 7, 7)),
    ],
)
def test_last_map(name: str, size: int, shape: tuple[int, ...]) -> None:
    network = build_cifar(name, num_classes=5, in_chans=1).eval()
    features = network.forward_features(torch.rand(2, 1, size, size))
    assert features.shape == (2, *shape)
    assert network.forward_head(features, pre_logits=True).shape == (2, shape[0])
    assert network.forward_head(features).shape == (2, 5)


def test_initial_weights() -> None:
    state = build_cifar("resnet8x4").state_dict()
    weight = state["layer3.0.conv2.weight"]  # He's initialisation by the fan-out: std = sqrt(2 / (9 * 256))
    assert weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert torch.equal(state["bn1.weight"], torch.ones(32))


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("resnet8", 5101.446356195763),
        ("resnet8x4_s2", 37013.59938185722),
        ("resnet8w_s2", 13712.45426647138),
    ],
)
def test_a_seed_gives_the_weights_it_always_gave(name: str, total: float) -> None:
    with torch.random.fork_rng(devices=[]), default_float64():
        torch.manual_seed(3)
        state = build_cifar(name, num_classes=7).state_dict()
    assert sum(value.abs().sum().item() for value in state.values()) == pytest.approx(total, rel=1e-11)
