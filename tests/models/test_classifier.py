import copy

import pytest
import torch

from kdcam.cam.maps import target_cam
from kdcam.errors import ModelError
from kdcam.models import (
    Classifier,
    ModelConfig,
    TeacherOutputs,
    build_classifier,
    teacher_outputs,
)


def make(name: str, size: int = 32, *, channels: int = 3, classes: int = 7, **keys: object) -> Classifier:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"name": name, **keys})
    return build_classifier(config, num_classes=classes, in_channels=channels, image_size=size)


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
