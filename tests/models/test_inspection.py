import copy
from collections.abc import Iterator

import pytest
import torch
from long_tests import LONG
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdcam.cam.maps import class_cams
from kdcam.errors import ModelError
from kdcam.models import Classifier, ModelConfig, build_classifier
from kdcam.models.classifier import Widths
from kdcam.models.inspection import Cost, check_cam, check_linear_classifier, cost, linear_classifier, widths

EXACT = [
    ("kdcam:resnet8", 32),
    ("kdcam:resnet8x4_s2", 48),
    ("resnet18", 64),
    ("densenet121", 64),
    ("mobilenetv2_035", 64),
    ("efficientnet_b0", 64),
    ("regnety_002", 64),
    ("torchvision:resnet18", 64),
    ("torchvision:densenet121", 64),
    ("torchvision:mobilenet_v2", 64),
    ("torchvision:efficientnet_b0", 64),
    ("torchvision:regnet_y_400mf", 64),
    ("torchvision:shufflenet_v2_x0_5", 64),
    ("torchvision:mnasnet0_5", 64),
    ("torchvision:googlenet", 64),
    ("torchvision:inception_v3", 96),
]
INEXACT = [
    ("vgg11", 32, "layers stand between"),
    ("mobilenetv3_small_050", 64, "layers stand between"),
    ("convnext_atto", 64, "normalisation stands between pooling and classifier"),
    ("swin_tiny_patch4_window7_224", 224, "channels-last"),
    ("vit_tiny_patch16_224", 32, "tokens"),
    ("volo_d1_224", 224, "tokens"),
    ("dla46x_c", 64, "no single linear layer"),
    ("torchvision:alexnet", 64, "layers stand between"),
    ("torchvision:mobilenet_v3_small", 64, "layers stand between"),
    ("torchvision:convnext_tiny", 64, "normalisation stands between"),
    ("torchvision:swin_t", 64, "channels-last"),
    ("torchvision:vit_b_32", 64, "tokens"),
    ("torchvision:squeezenet1_1", 64, "no single linear layer"),
]


def make(name: str, size: int = 32, *, channels: int = 3, classes: int = 7, **keys: object) -> Classifier:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"name": name, **keys})
    return build_classifier(config, num_classes=classes, in_channels=channels, image_size=size)


def trained_a_little(classifier: Classifier, size: int, channels: int = 3) -> Classifier:
    """Move BatchNorm's statistics and the bias away from their neutral start."""
    with torch.no_grad():
        classifier.train().outputs(torch.rand(4, channels, size, size))
        for parameter in classifier.parameters():
            parameter.add_(0.01 * torch.rand_like(parameter))
    return classifier.eval()


# In .ci/long with three channels too.
GREY = ("kdcam:resnet8", "regnety_002", "torchvision:densenet121")


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [(name, size, 3) for name, size in EXACT if LONG or name not in GREY]
    + [(name, size, 1) for name, size in EXACT if name in GREY],
)
def test_mean_of_the_cam_is_the_logits(name: str, size: int, channels: int) -> None:
    classifier = trained_a_little(make(name, size, channels=channels), size, channels)
    images = torch.rand(2, channels, size, size)
    with torch.no_grad():
        outputs = classifier.outputs(images)
        assert outputs.feature_map is not None
        assert outputs.weight is not None
        cams = class_cams(outputs.feature_map, outputs.weight, outputs.bias)
        logits = classifier(images)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(cams.mean((2, 3)), logits, rtol=1e-4, atol=1e-4 * logits.abs().max().item())
    torch.testing.assert_close(outputs.logits, logits, rtol=1e-5, atol=1e-6 * logits.abs().max().item())
    assert outputs.weight is classifier.get_parameter(_name_of(classifier, outputs.weight))
    check_cam(classifier)


def _name_of(classifier: Classifier, wanted: torch.Tensor) -> str:
    return next(name for name, parameter in classifier.named_parameters() if parameter is wanted)


@pytest.mark.parametrize(("name", "size", "reason"), INEXACT)
def test_networks_without_an_exact_cam(name: str, size: int, reason: str) -> None:
    classifier = make(name, size)
    with pytest.raises(ModelError, match=reason) as caught:
        check_cam(classifier)
    assert name in str(caught.value)
    assert "kdcam:resnet20" in str(caught.value)  # a network that does work
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        outputs = classifier.eval().outputs(images)
        torch.testing.assert_close(outputs.logits, classifier(images), rtol=1e-5, atol=1e-5)
    assert outputs.logits.shape == (2, 7)
    assert outputs.embedding.ndim == 2
    assert widths(classifier).embedding == outputs.embedding.shape[1]


def test_widths() -> None:
    earlier = ((16, 24, 24), (32, 12, 12))
    assert widths(make("kdcam:resnet8_s2", 48)) == Widths(64, 64, 6, 6, earlier, (*earlier, (64, 6, 6)))
    assert widths(make("resnet10t", 48)).published_stages == ()
    assert widths(make("vit_tiny_patch16_224", 32)) == Widths(192, None, None, None)


@pytest.fixture
def probed() -> Iterator[Classifier]:
    classifier = make("resnet18", drop_rate=0.3).train()
    classifier.network.get_submodule("bn1").eval()  # frozen on purpose
    before = copy.deepcopy(classifier.state_dict())
    modes = {name: module.training for name, module in classifier.named_modules()}
    state = torch.get_rng_state()
    yield classifier
    assert all(torch.equal(value, before[key]) for key, value in classifier.state_dict().items())
    assert modes == {name: module.training for name, module in classifier.named_modules()}
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_probes_leave_everything_as_it_was(probed: Classifier) -> None:
    widths(probed)
    check_cam(probed)


def test_modes_are_restored_after_a_failed_probe(probed: Classifier) -> None:
    probed.image_size = 0
    with pytest.raises(ModelError, match=r"cannot read images of 3 x 0 x 0"):
        widths(probed)
    probed.image_size = 32


def test_a_classifier_of_zeros_proves_nothing() -> None:
    classifier = make("convnext_atto", 64)
    nn.init.zeros_(classifier.network.get_classifier().weight)
    with pytest.raises(ModelError, match="normalisation stands between"):
        check_cam(classifier)


@pytest.mark.parametrize("name", ["kdcam:resnet8", "vgg11", "vit_tiny_patch16_224"])
def test_a_linear_classifier_is_seen_whatever_comes_before_it(name: str) -> None:
    check_linear_classifier(make(name))


def test_other_classifiers_are_refused() -> None:
    with pytest.raises(ModelError, match=r"'dla46x_c' is no single linear layer.*kdcam:resnet20"):
        check_linear_classifier(make("dla46x_c", 64))


@pytest.mark.parametrize(
    ("name", "layer"),
    [("kdcam:resnet8", "fc"), ("torchvision:mobilenet_v2", "classifier.1"), ("test_vit", "head")],
)
def test_the_layer_that_alone_makes_the_logits(name: str, layer: str) -> None:
    classifier = build_classifier(ModelConfig(name=name), num_classes=3, in_channels=3, image_size=160)
    assert linear_classifier(classifier) is classifier.network.get_submodule(layer)


@pytest.mark.parametrize(
    "name", ["efficientvit_m0", "shvit_s1", "levit_128s", "deit_tiny_distilled_patch16_224"]
)
def test_a_classifier_of_more_than_one_layer_has_none(name: str) -> None:
    classifier = build_classifier(ModelConfig(name=name), num_classes=3, in_channels=3, image_size=224)
    with pytest.raises(
        ModelError, match=rf"the classifier of '{name}' is no single linear layer of the embedding"
    ):
        linear_classifier(classifier)


def test_a_layer_without_bias_is_none() -> None:
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8"), num_classes=3, in_channels=3, image_size=32
    )
    classifier.network.fc = nn.Linear(64, 3, bias=False)
    with pytest.raises(ModelError, match=r"no single linear layer of the embedding with a bias"):
        linear_classifier(classifier)


@pytest.mark.parametrize(
    ("name", "size"), [("kdcam:resnet20_s2", 48), ("kdcam:shufflenetv1", 32), ("mobilenetv2_035", 64)]
)
def test_cost_is_what_torch_counts(name: str, size: int) -> None:
    classifier = make(name, size)
    found = cost(classifier, image_size=size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        classifier.eval()(torch.zeros(1, 3, size, size))
    assert found.operations == counter.get_total_flops() / 2
    assert found.parameters == sum(parameter.numel() for parameter in classifier.parameters())


def test_cost_leaves_the_network_as_it_was() -> None:
    classifier = make("kdcam:resnet8").train()
    before = copy.deepcopy(classifier.state_dict())
    assert cost(classifier, image_size=32) == cost(classifier, image_size=32)
    assert classifier.training
    assert not any(module._forward_hooks for module in classifier.modules())
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_cost_in_words() -> None:
    assert Cost(272_474, 40_812_544).text() == "0.272 M parameters and 40.8 M multiply-adds"
    assert Cost(25_557_032, 4_089_184_256).text() == "25.6 M parameters and 4.09 G multiply-adds"
