import pytest
import torch
from torch import nn

from kdcam.models.cifar import CIFAR_NETWORKS, build_cifar

# For CIFAR-100; the literature's tables print them as 0.08, 0.18, 0.28, 0.47, 0.67, 0.86, 1.74, 1.23 and 7.43
# million. `expected_count` derives them once more from the architecture, by hand.
PUBLISHED = {
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
}


def expected_count(name: str, num_classes: int, channels: int = 3) -> int:
    """Count by hand, layer by layer, without building anything."""
    spec = CIFAR_NETWORKS[name]
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


@pytest.mark.parametrize("name", CIFAR_NETWORKS)
def test_parameter_counts(name: str) -> None:
    network = build_cifar(name, num_classes=100)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == expected_count(name, 100)
    if name.removesuffix("_s2") in PUBLISHED:
        assert count == PUBLISHED[name.removesuffix("_s2")]


def test_all_the_names_of_the_literature_are_there() -> None:
    full = set(PUBLISHED)
    assert set(CIFAR_NETWORKS) == full | {f"{name}_s2" for name in full} | {"resnet8w_s2"}


def test_parameter_names_are_those_of_repdistiller() -> None:
    block = ["conv1.weight", *_norm("bn1"), "conv2.weight", *_norm("bn2")]
    shortcut = ["downsample.0.weight", *_norm("downsample.1")]
    narrow = ["conv1.weight", *_norm("bn1")]
    for stage in (1, 2, 3):
        narrow += [f"layer{stage}.0.{key}" for key in block + (shortcut if stage > 1 else [])]
    narrow += ["fc.weight", "fc.bias"]
    assert sorted(build_cifar("resnet8").state_dict()) == sorted(narrow)
    wide = set(build_cifar("resnet8x4").state_dict())
    assert wide == set(narrow) | {f"layer1.0.{key}" for key in shortcut}
    assert "layer3.2.bn2.running_var" in build_cifar("resnet20").state_dict()


def _norm(name: str) -> list[str]:
    return [
        f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    ]


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
    assert features.min() >= 0  # after the ReLU
    assert network.num_features == shape[0]
    assert network.forward_head(features, pre_logits=True).shape == (2, shape[0])
    assert network.forward_head(features).shape == (2, 5)


def test_initial_weights() -> None:
    network = build_cifar("resnet8x4")
    weight = network.layer3[0].conv2.weight  # He's initialisation by the fan-out: std = sqrt(2 / (9 * 256))
    assert weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert torch.equal(network.bn1.weight, torch.ones(32))


def test_dropout_acts_in_training_only() -> None:
    network = build_cifar("resnet8_s2", num_classes=3, drop_rate=0.5)
    features = torch.ones(2, 64, 4, 4)
    assert (network.forward_head(features, pre_logits=True) == 0).any()
    assert torch.equal(network.eval().forward_head(features, pre_logits=True), torch.ones(2, 64))


def test_reset_classifier() -> None:
    network = build_cifar("resnet8_s2", num_classes=3)
    network.reset_classifier(7)
    assert network(torch.rand(1, 3, 32, 32)[[0, 0]]).shape == (2, 7)
    network.reset_classifier(0)
    assert isinstance(network.get_classifier(), nn.Identity)
