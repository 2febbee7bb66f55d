from pathlib import Path

import pytest
import torch
from torch import nn

from kdcam.errors import CheckpointError, ModelError
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.inspection import check_cam, widths
from kdcam.models.model_config import ModelConfig
from kdcam.models.necks import ChannelAttention, Necked
from kdcam.models.weights.config_json import config_content
from kdcam.runs.checkpoint import load_classifier, save_model


def build(name: str, size: int = 32, **keys: object) -> Classifier:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"name": name, **keys})
    return build_classifier(config, num_classes=5, in_channels=3, image_size=size)


def images(size: int = 32) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_attention_equals_timms_block() -> None:
    from timm.layers.squeeze_excite import SEModule

    torch.manual_seed(0)
    own, theirs = ChannelAttention(32, reduction=16), SEModule(32, rd_channels=2)
    with torch.no_grad():
        for mine, other in ((own.squeeze, theirs.fc1), (own.excite, theirs.fc2)):
            other.weight.copy_(mine.weight[:, :, None, None])
            other.bias.copy_(mine.bias)
    feature_map = torch.randn(3, 32, 4, 5)
    torch.testing.assert_close(feature_map * own(feature_map)[:, :, None, None], theirs(feature_map))


@pytest.mark.parametrize("name", ["kdcam:resnet8", "resnet10t", "vgg11_bn", "convnext_atto"])
def test_attention_scales_the_map_that_the_head_reads(name: str) -> None:
    classifier = build(name, 64, channel_attention=True).eval()
    assert isinstance(classifier.network, Necked)
    outputs = classifier.outputs(images(64))
    plain = classifier.network.body.forward_features(classifier.normalise(images(64)))
    attention = outputs.channel_attention
    assert attention is not None
    assert ((attention > 0) & (attention < 1)).all()
    torch.testing.assert_close(outputs.feature_map, plain * attention[:, :, None, None])
    torch.testing.assert_close(outputs.logits, classifier(images(64)))


def test_networks_without_the_block_have_no_attention() -> None:
    assert build("kdcam:resnet8").outputs(images()).channel_attention is None
    assert build("kdcam:resnet8", feature_channels=15).outputs(images()).channel_attention is None


@pytest.mark.parametrize("name", ["kdcam:resnet8", "resnet10t", "mobilenetv2_100", "densenet121"])
@pytest.mark.parametrize("attention", [False, True])
def test_feature_channels_set_the_width_and_the_cam_stays_exact(name: str, attention: bool) -> None:
    classifier = build(name, 64, feature_channels=15, channel_attention=attention)
    sizes = widths(classifier)
    assert (sizes.channels, sizes.embedding) == (15, 15)
    check_cam(classifier)
    weight = classifier.outputs(images(64)).weight
    assert weight is not None
    assert weight.shape == (5, 15)


@pytest.mark.parametrize(
    ("name", "keys", "match"),
    [
        ("test_vit", {"channel_attention": True}, r"'test_vit' has no \(N, C, H, W\) map"),
        ("vgg11_bn", {"feature_channels": 15}, "'vgg11_bn' has more than global average pooling"),
        ("convnext_atto", {"feature_channels": 15}, "'convnext_atto' has more than global average pooling"),
        ("mobilenetv3_small_050", {"feature_channels": 15}, "has more than global average pooling"),
    ],
)
def test_networks_that_a_neck_does_not_fit_are_refused(
    name: str, keys: dict[str, object], match: str
) -> None:
    with pytest.raises(ModelError, match=match):
        build(name, 160 if name == "test_vit" else 64, **keys)


def test_images_that_are_too_small_are_refused_in_the_same_words_as_without_a_neck() -> None:
    with pytest.raises(
        ModelError, match=r"'inception_v4' cannot read images of 3 x 64 x 64.*data.image_size"
    ):
        build("inception_v4", 64, channel_attention=True)


def test_attention_is_worked_out_in_float32_under_autocast() -> None:
    classifier = build("kdcam:resnet8", channel_attention=True).eval()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = classifier.outputs(images())
    assert outputs.channel_attention is not None
    assert outputs.feature_map is not None
    assert outputs.channel_attention.dtype == torch.float32
    assert outputs.feature_map.dtype == torch.bfloat16


def test_building_leaves_generator_modes_and_statistics_alone() -> None:
    first, second = build("kdcam:resnet8"), build("kdcam:resnet8", channel_attention=True)
    assert isinstance(second.network, Necked)
    assert second.network.body.training
    for name, value in first.network.state_dict().items():
        assert torch.equal(second.network.body.state_dict()[name], value)


def test_saved_and_loaded_again_gives_the_same_logits(tmp_path: Path) -> None:
    classifier = build("resnet10t", channel_attention=True, feature_channels=15, attention_reduction=5).eval()
    save_model(tmp_path, classifier)
    loaded = load_classifier(tmp_path)
    assert torch.equal(loaded(images()), classifier(images()))
    assert "architecture" not in config_content(classifier)  # plain timm has no such network


def test_starts_from_the_weights_of_a_bare_network_and_of_one_with_a_neck(tmp_path: Path) -> None:
    bare, necked = build("kdcam:resnet8"), build("kdcam:resnet8", channel_attention=True)
    with torch.no_grad():
        for parameter in (*bare.parameters(), *necked.parameters()):
            parameter.add_(0.5)
    save_model(tmp_path / "bare", bare)
    save_model(tmp_path / "necked", necked)
    from_bare = build("kdcam:resnet8", channel_attention=True, weights=str(tmp_path / "bare"))
    assert isinstance(from_bare.network, Necked)
    torch.testing.assert_close(from_bare.network.body.conv1.weight, bare.network.conv1.weight)
    assert "so the neck is new" in from_bare.notes[0]
    with pytest.raises(CheckpointError, match="is of a network with a neck; set model"):
        build("kdcam:resnet8", weights=str(tmp_path / "necked"))
    from_necked = build("kdcam:resnet8", channel_attention=True, weights=str(tmp_path / "necked"))
    for mine, other in zip(from_necked.network.parameters(), necked.network.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_gradient_reaches_the_neck_through_the_logits() -> None:
    classifier = build("kdcam:resnet8", channel_attention=True, feature_channels=64)
    classifier(images()).square().sum().backward()
    network = classifier.network
    assert isinstance(network, Necked)
    assert isinstance(network.neck, nn.Module)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.neck.parameters())
