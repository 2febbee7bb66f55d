import pytest
import torch
from torch import Tensor

from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier, Widths, teacher_outputs
from kdcam.models.inspection import widths
from kdcam.models.model_config import ModelConfig
from kdcam.models.output_readers import earlier_maps


def build(name: str, size: int = 64, **keys: object) -> Classifier:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"name": name, **keys})
    return build_classifier(config, num_classes=5, in_channels=3, image_size=size).eval()


def images(size: int = 64) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def maps(*sizes: int) -> list[Tensor]:
    return [torch.zeros(1, 1, size, size) for size in sizes]


def test_the_last_map_of_each_size_before_the_last_size() -> None:
    every = maps(32, 32, 16, 8, 8)
    found = earlier_maps(every, every[-1])
    assert [one.shape[-1] for one in found] == [32, 16]
    assert found[0] is every[1]
    assert earlier_maps(maps(14, 14), maps(14)[0]) == ()
    assert [one.shape[-1] for one in earlier_maps(maps(32, 16), maps(8)[0])] == [32, 16]


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("kdcam:resnet20", ((16, 64, 64), (32, 32, 32))),
        ("resnet18", ((64, 32, 32), (64, 16, 16), (128, 8, 8), (256, 4, 4))),
        ("torchvision:resnet18", ((64, 16, 16), (128, 8, 8), (256, 4, 4))),
        ("mobilenetv2_035", ((8, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4))),
        ("torchvision:mobilenet_v2", ()),  # only ResNets tell theirs
        ("vit_tiny_patch16_224", ()),
    ],
)
def test_sizes_of_the_stages(name: str, stages: tuple[tuple[int, int, int], ...]) -> None:
    assert widths(build(name)).stages == stages


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("kdcam:resnet8", {}),
        ("kdcam:resnet8", {"channel_attention": True, "feature_channels": 10, "head": "cosine"}),
        ("resnet18", {}),
        ("torchvision:resnet18", {}),
        ("dla46x_c", {}),
        ("vit_tiny_patch16_224", {}),
    ],
)
def test_stages_change_nothing_else(name: str, keys: dict[str, object]) -> None:
    classifier = build(name, **keys)
    plain, staged = classifier.outputs(images()), classifier.outputs(images(), stages=True)
    assert plain.stages == plain.published_stages == ()
    torch.testing.assert_close(staged._replace(stages=(), published_stages=()), plain)


def test_stages_of_a_resnet_are_its_own_maps() -> None:
    classifier = build("resnet18")
    network, normalised = classifier.network, classifier.normalise(images())
    first = network.layer1(network.maxpool(network.act1(network.bn1(network.conv1(normalised)))))
    torch.testing.assert_close(classifier.outputs(images(), stages=True).stages[1], first)


@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18", "vit_tiny_patch16_224"])
def test_no_table_compares_maps_of_other_networks(name: str) -> None:
    assert build(name).outputs(images(), stages=True).published_stages == ()
    assert widths(build(name)).published_stages == ()


def test_published_maps_are_the_bodys_whatever_neck_and_head_follow() -> None:
    plain = build("kdcam:wrn_16_2")
    necked = build("kdcam:wrn_16_2", channel_attention=True, feature_channels=10, head="cosine")
    weights = {key: one for key, one in plain.network.state_dict().items() if not key.startswith("fc.")}
    necked.network.get_submodule("body").load_state_dict(weights, strict=False)
    found, same = (one.outputs(images(), stages=True).published_stages for one in (necked, plain))
    assert [tuple(one.shape[1:]) for one in found] == [(32, 64, 64), (64, 32, 32), (128, 16, 16)]
    torch.testing.assert_close(found, same)


def test_a_teacher_gives_its_stages_when_asked() -> None:
    teacher = build("kdcam:resnet8")
    labels = torch.zeros(2, dtype=torch.int64)
    asked = teacher_outputs(teacher, images(), labels, frozenset({"teacher.stages"}))
    assert [tuple(one.shape[1:]) for one in asked.stages] == [(16, 64, 64), (32, 32, 32)]
    assert not any(one.requires_grad for one in asked.stages)
    assert asked.published_stages == ()
    published = teacher_outputs(teacher, images(), labels, frozenset({"teacher.published_stages"}))
    torch.testing.assert_close(published.published_stages[:2], asked.stages)
    assert not any(one.requires_grad for one in published.published_stages)
    assert (published.stages, published.feature_map) == ((), None)
    assert teacher_outputs(teacher, images(), labels, frozenset({"teacher.embedding"})).stages == ()
    assert isinstance(widths(teacher), Widths)
