import subprocess
import sys

import pytest
import torch
from torch import nn

from kdcam.models import ModelConfig, build_classifier, check_cam, widths
from kdcam.models.networks import CIFAR_NETWORKS, build_cifar
from kdcam.models.networks.timm_registration import TIMM_PREFIX, default_cfgs

# For CIFAR-100, counted on HobbitLong/RepDistiller's own code (models/ at commit eedab9d; mobilenetv2.py at b13aecc);
# the literature's tables print them rounded: resnet8 ... resnet110 as 0.08, 0.18, 0.28, 0.47, 0.67, 0.86 and 1.74
# million, resnet8x4 1.23, resnet32x4 7.43, WRN-16-2 0.70, WRN-40-1 0.57, WRN-40-2 2.26, VGG8 3.97, VGG13 9.46,
# MobileNetV2 0.81, ShuffleNetV1 0.95, ShuffleNetV2 1.36, ResNet50 23.71. The families' own tests count by hand.
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
    "resnet50": 23_705_252,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg11": 9_277_284,
    "vgg13": 9_462_180,
    "vgg16": 14_774_436,
    "vgg19": 20_086_692,
    "mobilenetv2": 812_836,
    "shufflenetv1": 949_258,
    "shufflenetv2": 1_355_528,
}
# One of each family and what is special in it; the others differ in numbers of blocks and widths.
SAMPLES = [
    *("resnet8x4", "resnet8w_s2", "resnet50", "wrn_16_1", "wrn_16_2", "vgg8", "vgg11", "mobilenetv2"),
    *("shufflenetv1", "shufflenetv2"),
]
STAGES = {  # of images of 32 pixels: the last map of each size, and the last map
    "resnet20": [(16, 32), (32, 16), (64, 8)],
    "resnet50": [(256, 32), (512, 16), (1024, 8), (2048, 4)],
    "wrn_16_2": [(32, 32), (64, 16), (128, 8)],
    "vgg8": [(64, 32), (128, 16), (256, 8), (512, 4)],
    "mobilenetv2": [(12, 16), (16, 8), (48, 4), (1280, 2)],
    "shufflenetv1": [(24, 32), (240, 16), (480, 8), (960, 4)],
    "shufflenetv2": [(24, 32), (116, 16), (232, 8), (1024, 4)],
}
PUBLISHED_STAGES = {  # of images of 32 pixels, as HobbitLong/RepDistiller's feat[1:-1]; whether an activation is last
    "resnet20": ([(16, 32), (32, 16), (64, 8)], True),
    "resnet8x4": ([(64, 32), (128, 16), (256, 8)], True),
    "resnet50": ([(256, 32), (512, 16), (1024, 8), (2048, 4)], True),
    "wrn_16_2": ([(32, 32), (64, 16), (128, 8)], False),
    "vgg8": ([(128, 16), (256, 8), (512, 4), (512, 4)], True),
    "mobilenetv2": ([(12, 16), (16, 8), (48, 4), (160, 2)], False),
    "shufflenetv1": ([(240, 16), (480, 8), (960, 4)], True),
    "shufflenetv2": ([(116, 16), (232, 8), (464, 4)], True),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        network = build_cifar(name, num_classes=100)
    assert sum(parameter.numel() for parameter in network.parameters()) == PUBLISHED[name]


def test_all_names() -> None:
    fast = {f"{name}_s2" for name in CIFAR_NETWORKS if f"{name}_s2" in CIFAR_NETWORKS}
    assert set(CIFAR_NETWORKS) == set(PUBLISHED) | fast | {"resnet8w_s2"}
    assert len(fast) == 9


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 41)])
def test_the_cam_is_exact(name: str, channels: int, size: int) -> None:
    config = ModelConfig(name=f"kdcam:{name}")
    check_cam(build_classifier(config, num_classes=3, in_channels=channels, image_size=size))


@pytest.mark.parametrize("name", STAGES)
def test_stages(name: str) -> None:
    config = ModelConfig(name=f"kdcam:{name}")
    sizes = widths(build_classifier(config, num_classes=3, in_channels=3, image_size=32))
    *earlier, (channels, side) = STAGES[name]
    assert sizes.stages == tuple((width, pixels, pixels) for width, pixels in earlier)
    assert (sizes.channels, sizes.height, sizes.width) == (channels, side, side)
    assert sizes.embedding == channels


@pytest.mark.parametrize("name", PUBLISHED_STAGES)
def test_published_stages(name: str) -> None:
    torch.manual_seed(0)
    config = ModelConfig(name=f"kdcam:{name}")
    classifier = build_classifier(config, num_classes=3, in_channels=3, image_size=32)
    expected, activated = PUBLISHED_STAGES[name]
    sizes = tuple((width, pixels, pixels) for width, pixels in expected)
    assert widths(classifier).published_stages == sizes
    found = classifier.outputs(torch.rand(2, 3, 32, 32), stages=True).published_stages
    assert [one.min().item() >= 0 for one in found] == [activated] * len(sizes)


@pytest.mark.parametrize("name", SAMPLES)
def test_timms_interface(name: str) -> None:
    network = build_cifar(name, num_classes=5).eval()
    images = torch.rand(2, 3, 32, 32)
    last, maps = network.forward_intermediates(images)
    assert last is maps[-1]
    assert torch.equal(network.forward_features(images), last)
    assert last.shape[1] == network.num_features == network.head_hidden_size
    assert last.min() >= 0  # after the ReLU
    embedding = network.forward_head(last, pre_logits=True)
    assert torch.allclose(embedding, last.mean((2, 3)))
    assert torch.equal(network.get_classifier()(embedding), network(images))
    network.reset_classifier(7)
    assert network(images).shape == (2, network.num_classes) == (2, 7)
    network.reset_classifier(0)
    assert isinstance(network.get_classifier(), nn.Identity)
    assert torch.equal(network(images), embedding)


@pytest.mark.parametrize("name", SAMPLES)
def test_gradients_reach_all_parameters(name: str) -> None:
    network = build_cifar(name, num_classes=3)
    last, maps = network.forward_intermediates(torch.rand(4, 3, 32, 32))
    # A loss that reads the maps too: what is changed in place after them would be found here.
    (network.forward_head(last).square().sum() + sum(one.square().mean() for one in maps)).backward()
    without = [key for key, parameter in network.named_parameters() if parameter.grad is None]
    assert not without


@pytest.mark.parametrize("name", SAMPLES)
def test_the_ends_have_the_names_that_timm_is_told(name: str) -> None:
    network = build_cifar(name, num_classes=3, in_chans=2)
    told = default_cfgs[TIMM_PREFIX + name]
    assert network.get_submodule(told["classifier"]) is network.get_classifier()
    first = network.get_submodule(told["first_conv"])
    assert isinstance(first, nn.Conv2d)
    assert first.in_channels == 2


def test_dropout_acts_in_training_only() -> None:
    network = build_cifar("resnet8_s2", num_classes=3, drop_rate=0.5)
    features = torch.ones(2, 64, 4, 4)
    assert (network.forward_head(features, pre_logits=True) == 0).any()
    assert torch.equal(network.eval().forward_head(features, pre_logits=True), torch.ones(2, 64))


def test_the_table_is_cheap_to_import() -> None:
    code = (
        "import sys, kdcam.models.networks\n"
        "heavy = {'timm', 'torchvision', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
