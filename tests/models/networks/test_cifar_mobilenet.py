import pytest
import torch
from state_names import norm, under
from torch import nn

from kdcam.models.networks.cifar_mobilenet import CIFAR_MOBILENETS, CifarMobileNetV2, InvertedResidual

HALF = CIFAR_MOBILENETS["mobilenetv2"]
# Expansion, channels at half width, blocks, stride: table 2 of the paper, halved, with RepDistiller's strides.
STAGES = [
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
]


def test_stages() -> None:
    assert [tuple(stage) for stage in HALF.stages()] == STAGES
    assert [stage.channels for stage in HALF._replace(width=1.0).stages()] == [16, 24, 32, 64, 96, 160, 320]


def test_parameter_count_by_hand() -> None:
    total, before = 9 * 3 * 16 + 2 * 16, 16
    for expansion, width, blocks, _ in STAGES:
        for _ in range(blocks):
            wide = before * expansion
            total += before * wide + 2 * wide + 9 * wide + 2 * wide + wide * width + 2 * width
            before = width
    total += 160 * 1280 + 2 * 1280 + 1280 * 100 + 100
    network = CifarMobileNetV2(HALF, num_classes=100)
    assert sum(value.numel() for value in network.parameters()) == total == 812_836


def test_parameter_names_are_those_of_repdistiller() -> None:
    plain = ["0.weight", *norm("1")]
    block = [*plain, "3.weight", *norm("4"), "6.weight", *norm("7")]
    expected = under("conv1", plain)
    for stage, (_, _, blocks, _) in enumerate(STAGES):
        for index in range(blocks):
            expected += under(f"blocks.{stage}.{index}.conv", block)
    expected += [*under("conv2", plain), "classifier.0.weight", "classifier.0.bias"]
    assert list(CifarMobileNetV2(HALF).state_dict()) == expected


def test_shortcut_only_where_the_size_stays() -> None:
    x = torch.randn(1, 4, 6, 6)
    for out, stride, shape in ((4, 1, (4, 6, 6)), (4, 2, (4, 3, 3)), (8, 1, (8, 6, 6))):
        block = InvertedResidual(4, out, stride=stride, expansion=6).eval()
        nn.init.zeros_(block.conv[6].weight)
        result = block(x)
        assert result.shape[1:] == shape
        assert torch.equal(result, x if (out, stride) == (4, 1) else torch.zeros(1, *shape))


def test_maps() -> None:
    network = CifarMobileNetV2(HALF, num_classes=2).eval()
    _, maps = network.forward_intermediates(torch.rand(1, 3, 64, 64))
    assert [one.shape[2] for one in maps] == [32, 32, 32, 16, 8, 8, 4, 4, 4]
    assert [one.shape[1] for one in maps] == [16, 8, 12, 16, 32, 48, 80, 160, 1280]
    assert not any(isinstance(module, nn.ReLU6) for module in network.modules())


def test_initial_weights() -> None:
    network = CifarMobileNetV2(HALF, num_classes=100)
    classifier = network.get_classifier()
    assert isinstance(classifier, nn.Linear)
    assert classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not classifier.bias.any()
    depthwise = network.state_dict()["blocks.6.0.conv.3.weight"]  # 480 channels, each its own group
    assert depthwise.std().item() == pytest.approx((2 / (9 * 480)) ** 0.5, rel=0.06)
