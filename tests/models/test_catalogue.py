import pytest
import timm

from kdcam.errors import ModelError
from kdcam.models import ModelConfig, build_classifier, check_cam, has_exact_cam, list_models
from kdcam.models.catalogue import (
    TIMM_EXACT_CAM,
    TIMM_NO_EXACT_CAM,
    ModelName,
    split_name,
)
from kdcam.models.networks import CIFAR_NETWORKS


def test_all_sources_are_listed_once() -> None:
    models = list_models()
    names = [model.name for model in models]
    assert len(names) == len(set(names))
    assert ModelName("kdcam:resnet8w_s2", "kdcam") in models
    assert ModelName("resnet18", "timm") in models
    assert ModelName("torchvision:resnet18", "torchvision") in models
    assert not [name for name in names if name.startswith("kdcam_")]
    assert names[: len(CIFAR_NETWORKS)] == [f"kdcam:{name}" for name in CIFAR_NETWORKS]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("kdcam:*x4", ["kdcam:resnet8x4", "kdcam:resnet32x4"]),
        ("resnet8x4", ["kdcam:resnet8x4", "kdcam:resnet8x4_s2"]),
        (
            "torchvision:vgg1?",
            ["torchvision:vgg11", "torchvision:vgg13", "torchvision:vgg16", "torchvision:vgg19"],
        ),
        ("nothing_like_it", []),
    ],
)
def test_patterns(pattern: str, names: list[str]) -> None:
    assert [model.name for model in list_models(pattern)] == names


def test_split_name() -> None:
    assert split_name("kdcam:resnet20") == ("kdcam", "resnet20")
    assert split_name("resnet18.a1_in1k") == ("timm", "resnet18.a1_in1k")
    assert split_name("torchvision:vgg11") == ("torchvision", "vgg11")
    with pytest.raises(ModelError, match="kdcam:resnet20"):
        split_name("kdcam_resnet20")


# The smallest of some families; the tables were made the same way, from the smallest of each.
SAMPLES = [
    *("kdcam:resnet8", "test_resnet", "test_efficientnet", "test_nfnet", "regnetx_002", "mobilevit_xxs"),
    *("starnet_s050", "rexnet_100", "vovnet39a", "legacy_seresnet18", "skresnet18", "visformer_tiny"),
    *("test_convnext", "convnext_tiny_hnf", "lcnet_035", "ghostnet_050", "efficientvit_m0", "shvit_s1"),
    *("nextvit_small", "repghostnet_050", "edgenext_xx_small", "efficientvit_b0", "test_mambaout"),
    *("torchvision:mnasnet0_5", "torchvision:squeezenet1_1", "torchvision:mobilenet_v3_small"),
]


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_known_of_a_family_is_what_check_cam_finds(name: str) -> None:
    size = 224 if name == "visformer_tiny" else 64
    classifier = build_classifier(ModelConfig(name=name), num_classes=3, in_channels=3, image_size=size)
    known = has_exact_cam(name)
    assert known is not None
    if known:
        check_cam(classifier)
    else:
        with pytest.raises(ModelError, match="no exact class activation map"):
            check_cam(classifier)


def test_tables() -> None:
    assert not TIMM_EXACT_CAM & TIMM_NO_EXACT_CAM
    assert {"resnet", "efficientnet", "densenet", "regnet"} <= TIMM_EXACT_CAM
    assert {"vgg", "mobilenetv3", "convnext", "swin_transformer", "vision_transformer"} <= TIMM_NO_EXACT_CAM
    assert has_exact_cam("resnet50_clip") is None  # its family's networks differ
    for name in timm.list_models()[::50]:
        if not name.startswith("kdcam_"):
            assert has_exact_cam(name) in (True, False, None)
