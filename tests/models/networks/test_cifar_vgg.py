import pytest
import torch
from state_names import norm, under
from torch import nn

from kdcam.models.networks.cifar_vgg import CIFAR_VGGS, CifarVgg, VggSpec

WIDTHS = (64, 128, 256, 512, 512)


def expected_count(spec: VggSpec, num_classes: int) -> int:
    """Count by hand, layer by layer, without building anything; the convolutions have biases."""
    total, before = 0, 3
    for width, convolutions in zip(WIDTHS, spec.convolutions, strict=True):
        for _ in range(convolutions):
            total += 9 * before * width + width + 2 * width
            before = width
    return total + 512 * num_classes + num_classes


@pytest.mark.parametrize("name", CIFAR_VGGS)
def test_parameter_counts_and_depths(name: str) -> None:
    spec = CIFAR_VGGS[name]
    with torch.device("meta"):
        network = CifarVgg(spec, num_classes=100)
    assert sum(value.numel() for value in network.parameters()) == expected_count(spec, 100)
    # The depth counts two hidden linear layers of the paper that are left out here.
    assert sum(spec.convolutions) + 3 == int(name.removeprefix("vgg"))


def test_parameter_names_are_those_of_repdistiller() -> None:
    one = ["0.weight", "0.bias", *norm("1")]
    two = [*one, "3.weight", "3.bias", *norm("4")]
    expected = under("block0", one) + under("block1", one)
    expected += [name for block in (2, 3, 4) for name in under(f"block{block}", two)]
    expected += ["classifier.weight", "classifier.bias"]
    assert list(CifarVgg(CIFAR_VGGS["vgg11"]).state_dict()) == expected


@pytest.mark.parametrize(
    ("size", "sides"),
    [(32, [32, 16, 8, 4, 4]), (48, [48, 24, 12, 6, 6]), (64, [64, 32, 16, 8, 4]), (96, [96, 48, 24, 12, 6])],
)
def test_the_last_pooling_is_for_large_images(size: int, sides: list[int]) -> None:
    network = CifarVgg(CIFAR_VGGS["vgg8"], num_classes=2).eval()
    _, maps = network.forward_intermediates(torch.rand(1, 3, size, size))
    assert [one.shape[2] for one in maps] == sides
    assert [one.shape[1] for one in maps] == list(WIDTHS)
    assert all(one.min() >= 0 for one in maps)


def test_blocks_end_before_the_relu() -> None:
    network = CifarVgg(CIFAR_VGGS["vgg13"])
    assert all(isinstance(block[-1], nn.BatchNorm2d) for block in (network.block0, network.block4))


def test_initial_weights() -> None:
    network = CifarVgg(CIFAR_VGGS["vgg8"], num_classes=100)
    assert isinstance(network.classifier, nn.Linear)
    assert network.classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
    state = network.state_dict()
    assert not any(value.any() for name, value in state.items() if name.endswith(".bias"))
    assert state["block4.0.weight"].std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
