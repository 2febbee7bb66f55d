import pytest
import torch
from state_names import norm, under
from torch import nn

from kdcam.models.networks.wide_resnet import WIDE_RESNETS, WideBlock, WideResNet, WideSpec


def expected_count(spec: WideSpec, num_classes: int) -> int:
    """Count by hand, layer by layer, without building anything."""
    blocks = (spec.depth - 4) // 6
    total, before = 9 * 3 * 16, 16
    for width in (16 * spec.widen, 32 * spec.widen, 64 * spec.widen):
        total += 9 * before * width + 9 * width * width + 2 * before + 2 * width
        total += (blocks - 1) * (18 * width * width + 4 * width)
        total += before * width if before != width else 0
        before = width
    return total + 2 * before + before * num_classes + num_classes


@pytest.mark.parametrize("name", WIDE_RESNETS)
def test_parameter_counts(name: str) -> None:
    network = WideResNet(WIDE_RESNETS[name], num_classes=100)
    assert sum(value.numel() for value in network.parameters()) == expected_count(WIDE_RESNETS[name], 100)


@pytest.mark.parametrize("widen", [1, 2])
def test_parameter_names_are_those_of_repdistiller(widen: int) -> None:
    block = [*norm("bn1"), "conv1.weight", *norm("bn2"), "conv2.weight"]
    expected = ["conv1.weight"]
    for stage in (1, 2, 3):
        changes = stage > 1 or widen > 1  # the stem has 16 channels, as the first stage of width 1
        expected += under(f"block{stage}.layer.0", block + (["convShortcut.weight"] if changes else []))
        expected += under(f"block{stage}.layer.1", block)
    expected += [*norm("bn1"), "fc.weight", "fc.bias"]
    assert list(WideResNet(WIDE_RESNETS[f"wrn_16_{widen}"]).state_dict()) == expected


def test_shortcuts() -> None:
    x = torch.randn(1, 4, 6, 6)
    same, wider = WideBlock(4, 4, 1).eval(), WideBlock(4, 8, 2).eval()
    for block in (same, wider):
        nn.init.zeros_(block.conv2.weight)
    assert torch.equal(same(x), x)  # of the map itself, before its norm
    assert wider.convShortcut is not None
    activated = wider.bn1(x).relu()
    assert torch.allclose(wider(x), wider.convShortcut(activated))


def test_the_last_map_is_normalised_and_activated() -> None:
    network = WideResNet(WIDE_RESNETS["wrn_16_1"], num_classes=3).eval()
    nn.init.constant_(network.bn1.bias, 0.5)
    last, maps = network.forward_intermediates(torch.rand(2, 3, 32, 32))
    assert torch.equal(last, network.bn1(maps[-2]).relu())
    assert maps[-2].min() < 0
    assert [one.shape[1] for one in maps] == [16, 16, 32, 64, 64]


def test_initial_weights() -> None:
    network = WideResNet(WIDE_RESNETS["wrn_40_2"], num_classes=9)
    assert torch.equal(network.state_dict()["fc.bias"], torch.zeros(9))
    weight = network.state_dict()["block3.layer.1.conv2.weight"]
    assert weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
