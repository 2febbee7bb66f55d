import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from kdcam.cam.maps import class_cams, target_cam
from kdcam.errors import ModelError
from kdcam.losses.loss import Widths
from kdcam.models import (
    Classifier,
    ModelConfig,
    TeacherOutputs,
    build_classifier,
    check_cam,
    teacher_outputs,
    widths,
)

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


GREY = ("kdcam:resnet8", "regnety_002", "torchvision:densenet121")


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [(name, size, 3) for name, size in EXACT] + [(name, size, 1) for name, size in EXACT if name in GREY],
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


@pytest.mark.parametrize("name", ["kdcam:resnet8_s2", "resnet18", "torchvision:resnet18"])
def test_forward_is_the_logits_of_outputs(name: str) -> None:
    classifier = make(name)
    images = torch.rand(4, 3, 32, 32)
    for mode in (True, False):
        classifier.train(mode)
        assert torch.equal(classifier(images), classifier.outputs(images).logits)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("kdcam:resnet8_s2", "drop_rate"),
        ("efficientnet_b0", "drop_rate"),
        ("torchvision:mobilenet_v2", "drop_rate"),
    ],
)
def test_dropout_draws_alike_in_forward_and_outputs(name: str, key: str) -> None:
    classifier = make(name, **{key: 0.5}).train()
    images = torch.rand(2, 3, 32, 32)
    torch.manual_seed(1)
    logits = classifier(images)
    torch.manual_seed(1)
    assert torch.equal(logits, classifier.outputs(images).logits)
    assert not torch.equal(logits, classifier(images))


def test_normalisation_is_inside() -> None:
    classifier = make("kdcam:resnet8", mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)).eval()
    images = torch.rand(2, 3, 32, 32)
    by_hand = images.clone()
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 1.0), (0.3, 2.0)]):
        by_hand[:, channel] = (images[:, channel] - mean) / std
    torch.testing.assert_close(classifier.normalise(images), by_hand)
    torch.testing.assert_close(classifier(images), classifier.network(by_hand))
    assert not [key for key in classifier.state_dict() if not key.startswith("network.")]


def test_the_memory_format_is_channels_last() -> None:
    classifier = make("kdcam:resnet8")
    assert classifier.network.get_parameter("layer3.0.conv1.weight").is_contiguous(
        memory_format=torch.channels_last
    )
    assert classifier.normalise(torch.rand(2, 3, 8, 8)).is_contiguous(memory_format=torch.channels_last)


def test_outputs_let_the_gradient_through() -> None:
    classifier = make("torchvision:resnet18")
    outputs = classifier.outputs(torch.rand(2, 3, 32, 32))
    assert outputs.feature_map is not None
    outputs.feature_map.sum().backward()
    grad = classifier.network.get_parameter("conv1.weight").grad
    assert grad is not None
    assert grad.abs().sum() > 0


def test_widths() -> None:
    assert widths(make("kdcam:resnet8_s2", 48)) == Widths(64, 64, 6, 6)
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


@pytest.mark.parametrize("name", ["kdcam:resnet8_s2", "torchvision:resnet18"])
def test_a_copy_is_independent(name: str) -> None:
    classifier = make(name).eval()
    twin = copy.deepcopy(classifier)
    images = torch.rand(2, 3, 32, 32)
    before = classifier.outputs(images).logits
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(classifier.outputs(images).logits, before)
    assert not torch.equal(twin.outputs(images).logits, before)
    assert twin.train().outputs(images).logits.shape == (2, 7)


# -- the teacher


@pytest.fixture
def teacher() -> Classifier:
    return make("kdcam:resnet8").eval()


def test_teacher_outputs_hold_what_is_asked_for(teacher: Classifier) -> None:
    images, targets = torch.rand(3, 3, 32, 32), torch.tensor([0, 3, 6])
    outputs = teacher.outputs(images)
    assert outputs.feature_map is not None
    assert outputs.weight is not None
    needs = frozenset({"cam", "teacher.logits", "teacher.label_cam"})
    found = teacher_outputs(teacher, images, targets, needs)
    assert found.label_cam is not None
    torch.testing.assert_close(found.logits, outputs.logits)
    torch.testing.assert_close(found.label_cam, target_cam(outputs.feature_map, outputs.weight, targets))
    assert not found.label_cam.requires_grad
    assert not found.label_cam.is_inference()
    assert found.class_cams is None
    assert found.feature_map is None
    assert found.embedding is None


@pytest.mark.parametrize("field", ["logits", "label_cam", "class_cams", "feature_map", "embedding"])
def test_teacher_outputs_one_by_one(teacher: Classifier, field: str) -> None:
    found = teacher_outputs(
        teacher, torch.rand(2, 3, 32, 32), torch.tensor([1, 2]), frozenset({f"teacher.{field}"})
    )
    given = {
        name
        for name, value in zip(TeacherOutputs._fields, found, strict=True)
        if isinstance(value, torch.Tensor)
    }
    assert given == {field}


def test_mixed_rows_give_the_weighted_label_cam(teacher: Classifier) -> None:
    images = torch.rand(1, 3, 32, 32)
    needs = frozenset({"teacher.label_cam", "teacher.class_cams"})
    found = teacher_outputs(teacher, images, torch.tensor([[0.25, 0.75, 0, 0, 0, 0, 0]]), needs)
    assert found.class_cams is not None
    assert found.label_cam is not None
    bias = teacher.outputs(images).bias
    assert bias is not None
    cams = found.class_cams - bias[:, None, None]
    torch.testing.assert_close(found.label_cam, 0.25 * cams[:, 0] + 0.75 * cams[:, 1])


def test_a_teacher_that_nobody_needs_is_not_run(teacher: Classifier) -> None:
    wrong = torch.rand(2, 5, 32, 32)  # would fail
    assert teacher_outputs(teacher, wrong, torch.tensor([0]), frozenset({"cam"})) == TeacherOutputs()


def test_unknown_needs(teacher: Classifier) -> None:
    with pytest.raises(ValueError, match=r"teacher\.soul.*known"):
        teacher_outputs(teacher, torch.rand(1, 3, 32, 32), torch.tensor([0]), frozenset({"teacher.soul"}))


def test_a_teacher_without_a_map() -> None:
    teacher = make("vit_tiny_patch16_224").eval()
    with pytest.raises(ModelError, match="no class activation map"):
        teacher_outputs(
            teacher, torch.rand(1, 3, 32, 32), torch.tensor([0]), frozenset({"teacher.label_cam"})
        )
