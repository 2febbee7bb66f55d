import pytest

from kdcam.errors import ModelError
from kdcam.models.weights.published_networks import published_classes


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("resnet18", 1000),
        ("vit_tiny_patch16_224.augreg_in21k", 21843),
        ("vit_base_patch14_dinov2", 0),
        ("resnetv2_101x3_bitm", None),
        ("resnet18.no_such_weights", None),
        ("torchvision:resnet18", 1000),
        ("kdcam:resnet20", None),
    ],
)
def test_class_counts(name: str, classes: int | None) -> None:
    assert published_classes(name) == classes


def test_unknown_networks() -> None:
    with pytest.raises(ModelError, match="there is no network 'resnet18x'"):
        published_classes("resnet18x")
