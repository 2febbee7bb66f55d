from collections import defaultdict

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.layer_groups import layer_depths, layer_scales, stage_count, stage_depths
from kdcam.models.model_config import ModelConfig
from kdcam.optim.optimizer import SgdConfig, build_optimizer


def build(name: str, **keys: object) -> Classifier:
    config = ModelConfig(name=name, **keys)  # type: ignore[arg-type]
    return build_classifier(config, num_classes=5, in_channels=3, image_size=64)


def holders(depths: dict[str, int], length: int) -> dict[int, set[str]]:
    found = defaultdict(set)
    for name, depth in depths.items():
        found[depth].add(".".join(name.split(".")[:length]))
    return dict(found)


def test_the_stages_of_kdcams_networks() -> None:
    assert holders(stage_depths(build("kdcam:resnet8").network), 1) == {
        0: {"conv1", "bn1"},
        1: {"layer1"},
        2: {"layer2"},
        3: {"layer3"},
        4: {"fc"},
    }
    # The BatchNorm behind the last stage is counted to it.
    wide = holders(stage_depths(build("kdcam:wrn_16_2").network), 1)
    assert wide == {0: {"conv1"}, 1: {"block1"}, 2: {"block2"}, 3: {"block3", "bn1"}, 4: {"fc"}}


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet10t", 4),
        ("tf_efficientnet_lite0", 7),
        ("kdcam:vgg8", 4),
        ("kdcam:mobilenetv2", 8),
        ("torchvision:resnet18", 4),
        ("torchvision:vgg11", 4),
        ("torchvision:shufflenet_v2_x0_5", 4),
    ],
)
def test_every_parameter_has_a_depth_and_the_classifier_the_last(name: str, stages: int) -> None:
    network = build(name).network
    assert stage_count(network) == stages
    for depths in (stage_depths(network), layer_depths(network)):
        assert set(depths) == {name for name, _ in network.named_parameters()}
        assert set(depths.values()) == set(range(max(depths.values()) + 1))
        assert depths[list(depths)[-1]] == max(depths.values())
    assert max(layer_depths(network).values()) >= max(stage_depths(network).values())


def test_blocks_are_groups_of_their_own() -> None:
    groups = holders(layer_depths(build("kdcam:resnet14").network), 2)
    assert [groups[depth] for depth in (1, 2, 3)] == [{"layer1.0"}, {"layer1.1"}, {"layer2.0"}]


def test_a_neck_is_as_deep_as_the_classifier() -> None:
    network = build("kdcam:resnet8", channel_attention=True).network
    depths = stage_depths(network)
    assert depths["body.layer3.0.conv1.weight"] == 3
    assert {depth for name, depth in depths.items() if name.startswith(("neck.", "body.fc."))} == {4}
    of_timm = stage_depths(build("resnet10t", channel_attention=True).network)
    assert of_timm["body.layer4.0.conv1.weight"] == 4
    assert {depth for name, depth in of_timm.items() if name.startswith(("neck.", "body.fc."))} == {5}


@pytest.mark.parametrize(
    "name", ["resnet10t", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "convnext_atto"]
)
def test_scales_and_decay_equal_timms(name: str) -> None:
    network = timm.create_model(name, num_classes=5)
    theirs = {
        id(parameter): (group["lr_scale"], group["weight_decay"])
        for group in param_groups_layer_decay(network, weight_decay=0.05, layer_decay=0.75)
        for parameter in group["params"]
    }
    config = SgdConfig(lr=0.2, weight_decay=0.05, decay_norm_and_bias=False)
    optimizer = build_optimizer(config, network, scales=layer_scales(network, 0.75))
    ours = {
        id(parameter): (group["lr"] / 0.2, group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert ours.keys() == theirs.keys()
    for key, (scale, decay) in theirs.items():
        assert ours[key] == (pytest.approx(scale), decay)
    assert optimizer.param_groups[0]["lr"] == 0.2  # shown as the run's rate


def test_parameters_that_no_module_holds_are_of_the_stem() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1))
            self.body = nn.Sequential(nn.Linear(1, 1))
            self.head = nn.Linear(1, 2)

    assert stage_depths(Tokens())["token"] == 0
    assert stage_depths(Tokens())["head.weight"] == 1
