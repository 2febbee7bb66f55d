from typing import Any

import pytest
import timm
import torch
from long_tests import in_long
from pydantic import ValidationError

from kdcam.errors import ModelError
from kdcam.models import Classifier, ModelConfig, Preprocessing, build_classifier, widths

IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def build(name: str, *, classes: int = 5, channels: int = 3, size: int = 32, **keys: Any) -> Classifier:
    config = ModelConfig(name=name, **keys)
    return build_classifier(config, num_classes=classes, in_channels=channels, image_size=size)


@pytest.mark.parametrize(
    "name", ["kdcam:resnet8", "resnet18", "torchvision:resnet18", "torchvision:vit_b_32"]
)
@pytest.mark.parametrize("channels", [1, in_long(2), 3])
def test_channels(name: str, channels: int) -> None:
    classifier = build(name, channels=channels).eval()
    assert classifier.in_channels == channels
    assert len(classifier.preprocessing.mean) == channels
    assert classifier(torch.rand(2, channels, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize("name", ["kdcam:resnet8", "resnet18", "torchvision:resnet18"])
def test_weights_follow_torchs_generator(name: str) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build(name).state_dict())
    first, same, other = states
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["kdcam:resnet8", "resnet18", "torchvision:resnet18"])
def test_statistics_without_pretraining_are_kdcams(name: str) -> None:
    assert build(name).preprocessing == Preprocessing((0.5,) * 3, (0.25,) * 3)
    assert build(name, channels=1).preprocessing == Preprocessing((0.5,), (0.25,))


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``pretrained`` go all the way but for fetching the weights."""
    from torchvision.models import _api

    monkeypatch.setattr("kdcam.models.weights.download.is_answering", lambda address: True)
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *args, **keys: None)

    def random_weights(self: Any, *args: Any, **keys: Any) -> dict[str, torch.Tensor]:
        from torchvision.models import resnet18

        return resnet18().state_dict()

    monkeypatch.setattr(_api.WeightsEnum, "get_state_dict", random_weights)


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18"])
def test_pretrained_statistics_belong_to_pretrained_weights(name: str) -> None:
    assert build(name, pretrained=True).preprocessing == IMAGENET
    grey = build(name, pretrained=True, channels=1).preprocessing
    assert grey.mean == (pytest.approx(sum(IMAGENET.mean) / 3),)
    asked = build(name, pretrained=True, mean=(0.1, 0.2, 0.3), std=(0.5,)).preprocessing
    assert asked == Preprocessing((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("channels", [1, 3])
def test_pretrained_torchvision_network_gets_a_head_that_fits(channels: int) -> None:
    classifier = build("torchvision:resnet18", pretrained=True, channels=channels)
    assert classifier.outputs(torch.rand(2, channels, 32, 32)).logits.shape == (2, 5)


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **keys: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("kdcam.models.weights.download.is_answering", lambda address: True)
    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", offline)
    for name in ("resnet18", "torchvision:resnet18"):
        with pytest.raises(ModelError, match="no route to host"):
            build(name, pretrained=True)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("kdcam:resnet21", "kdcam:resnet20"),
        ("kdcam:resnet8_x4", "kdcam:resnet8x4"),
        ("resnet20", "kdcam:resnet20"),
        ("resnt18", "resnet18"),
        ("mobilenet_v2", "torchvision:mobilenet_v2"),
        ("torchvision:resnet19", "torchvision:resnet18"),
        ("timm/resnet18", "resnet18"),
        ("kdcam_resnet20", "kdcam:resnet20"),
    ],
)
def test_unknown_names_get_close_spellings(name: str, meant: str) -> None:
    with pytest.raises(ModelError) as caught:
        build(name)
    assert repr(name) in str(caught.value)
    assert meant in str(caught.value).partition("did you mean")[2]


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "cifar:resnet20"])
def test_unknown_prefix(name: str) -> None:
    with pytest.raises(ModelError, match=r"unknown prefix.*kdcam:NAME, torchvision:NAME"):
        build(name)


def test_a_name_like_nothing() -> None:
    with pytest.raises(ModelError, match=r"no network 'qqqqqqqq'; `kdcam models list`"):
        build("qqqqqqqq")


def test_timm_tags_are_part_of_the_name() -> None:
    assert build("resnet18.a1_in1k").config.name == "resnet18.a1_in1k"
    with pytest.raises(ModelError, match="no_such_tag"):
        build("resnet18.no_such_tag", pretrained=True)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("kdcam:resnet8", "drop_path_rate"),
        ("torchvision:resnet18", "drop_rate"),
        ("torchvision:resnet18", "drop_path_rate"),
        ("vgg11", "drop_path_rate"),
    ],
)
def test_rates_that_a_network_does_not_take(name: str, key: str) -> None:
    with pytest.raises(ModelError, match=r"drop_(path_)?rate"):
        build(name, **{key: 0.1})


def test_rates_that_a_network_takes() -> None:
    assert build("kdcam:resnet8", drop_rate=0.2, drop_path_rate=0.0).network.drop_rate == 0.2
    assert build("resnet18", drop_rate=0.2, drop_path_rate=0.1).network.drop_rate == 0.2
    dropout = build("torchvision:mobilenet_v2", drop_rate=0.3).network.get_submodule("classifier.0")
    assert isinstance(dropout, torch.nn.Dropout)
    assert dropout.p == 0.3


def test_networks_of_one_size_get_the_datas() -> None:
    classifier = build("vit_tiny_patch16_224", size=48)
    assert widths(classifier).embedding == 192
    assert classifier.network.patch_embed.img_size == (48, 48)  # type: ignore[union-attr]


def test_images_too_small_for_a_network() -> None:
    with pytest.raises(ModelError, match=r"inception_v3.* cannot read images of 3 x 32 x 32.*image_size"):
        widths(build("torchvision:inception_v3"))


@pytest.mark.parametrize("keys", [{"mean": (0.1, 0.2)}, {"std": (0.1, 0.2)}])
def test_statistics_of_another_channel_count(keys: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"model\.(mean|std): found 2 numbers for images of 3"):
        build("kdcam:resnet8", **keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pretrained": True, "weights": "a"}, "two starting points"),
        ({"pretrained": True}, "no published weights"),
        ({"std": (0.0,)}, "greater than 0"),
        ({"drop_rate": 1.0}, "less than 1"),
        ({"heads": "linear"}, "heads"),
    ],
)
def test_configs_that_cannot_be(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**keys)


def test_label_names() -> None:
    config = ModelConfig(name="kdcam:resnet8")
    names = ["cat", "dog"]
    built = build_classifier(config, num_classes=2, in_channels=3, image_size=32, label_names=names)
    assert built.label_names == ("cat", "dog")
    with pytest.raises(ValueError, match="2 label names for 3 classes"):
        build_classifier(config, num_classes=3, in_channels=3, image_size=32, label_names=names)


def test_the_network_is_plain_timm() -> None:
    plain = timm.create_model("resnet18", num_classes=5)
    assert list(build("resnet18").network.state_dict()) == list(plain.state_dict())


def test_the_network_is_plain_torchvision() -> None:
    from torchvision import models

    for name in ("resnet18", "googlenet", "swin_t"):
        options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        plain = models.get_model(name, num_classes=5, **options)
        assert list(build(f"torchvision:{name}").network.state_dict()) == list(plain.state_dict())


def test_lambda_networks_have_five_dimensional_weights() -> None:
    classifier = build("lambda_resnet26t", size=256)
    assert classifier.network.get_parameter("stem.conv1.conv.weight").is_contiguous(
        memory_format=torch.channels_last
    )


@pytest.mark.parametrize("name", ["efficientvit_m0", "shvit_s1", "repghostnet_050"])
def test_a_norm_inside_the_classifier_counts(name: str) -> None:
    classifier = build(name, size=64).eval()
    with torch.no_grad():
        for key, buffer in classifier.named_buffers():
            if key.endswith("running_mean"):
                buffer += 0.3 * torch.rand_like(buffer)
        images = torch.rand(2, 3, 64, 64)
        assert torch.equal(classifier(images), classifier.outputs(images).logits)


@pytest.mark.parametrize("channels", [1, 3])
def test_memory_format_is_that_of_module_to(channels: int) -> None:
    plain = timm.create_model("resnet10t", in_chans=channels).to(memory_format=torch.channels_last)
    built = build("resnet10t", channels=channels)
    for key, parameter in plain.named_parameters():
        if not key.startswith("fc."):
            assert built.network.get_parameter(key).stride() == parameter.stride(), key
