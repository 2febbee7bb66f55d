import pytest
import torch
from torch import Tensor

from kdcam.cam.maps import minmax_normalize
from kdcam.errors import ModelError
from kdcam.evaluation.localization.localization_measurement import batch_maps, map_kind_for
from kdcam.explanation.class_maps import explain_image
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig

CLASSES = torch.tensor([2, 0, 1, 2])


def network(name: str, size: int) -> Classifier:
    torch.manual_seed(0)
    return build_classifier(ModelConfig(name=name), num_classes=3, in_channels=3, image_size=size).eval()


@pytest.fixture(scope="module")
def small() -> Classifier:
    return network("kdcam:resnet8", 16)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["cam", "gradcam", "hirescam"])
def test_each_image_has_the_map_that_explain_shows(small: Classifier, images: Tensor, kind) -> None:
    found = batch_maps(small, images, CLASSES, kind)
    for image, number, map_ in zip(images, CLASSES.tolist(), found, strict=True):
        alone = explain_image(small, image, method=kind, chosen=(number,)).class_maps[0]
        # explain's CAM has the class's bias on it, which moves the whole map
        assert torch.allclose(minmax_normalize(map_), minmax_normalize(alone), atol=1e-4)


def test_the_agnostic_map_and_that_of_what_the_network_says(small: Classifier, images: Tensor) -> None:
    alone = explain_image(small, images[0], method="cam")
    assert torch.allclose(batch_maps(small, images, CLASSES, "caam")[0], alone.caam, rtol=1e-4)
    says = small(images).argmax(1)
    for kind in ("cam", "gradcam"):
        assert torch.equal(batch_maps(small, images, None, kind), batch_maps(small, images, says, kind))


def test_no_gradient_stays_and_none_is_needed(small: Classifier, images: Tensor) -> None:
    with torch.inference_mode():
        found = batch_maps(small, images + 0, CLASSES, "gradcam")
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in small.parameters())


def test_gradcam_where_there_is_no_exact_cam() -> None:
    mobilenet = network("mobilenetv3_small_050", 64)
    assert map_kind_for(mobilenet, "cam") == "gradcam"
    assert map_kind_for(mobilenet, "caam") == "caam"
    assert map_kind_for(mobilenet, "hirescam") == "hirescam"
    maps = batch_maps(mobilenet, torch.rand(4, 3, 64, 64), CLASSES, "gradcam")
    assert maps.shape == (4, 2, 2)


def test_networks_with_an_exact_cam_keep_what_is_asked(small: Classifier) -> None:
    assert [map_kind_for(small, kind) for kind in ("cam", "caam", "gradcam")] == ["cam", "caam", "gradcam"]


def test_of_a_network_of_tokens_their_grid_is_measured() -> None:
    vit = network("test_vit", 64)
    assert map_kind_for(vit, "cam") == "gradcam"
    images = torch.rand(4, 3, 64, 64)
    found = batch_maps(vit, images, CLASSES, "gradcam")
    alone = explain_image(vit, images[1], method="gradcam", chosen=(0,)).class_maps[0]
    assert torch.allclose(found[1], alone, rtol=1e-4, atol=1e-6 * float(alone.max()))
    assert batch_maps(vit, images, CLASSES, "caam").shape == (4, 4, 4)


def test_a_network_without_a_map_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'torchvision:vit_b_32' has neither a \(N, C, H, W\) map"):
        map_kind_for(network("torchvision:vit_b_32", 32), "caam")


@pytest.mark.parametrize("kind", ["cam", "caam", "gradcam", "hirescam"])
@pytest.mark.parametrize("classes", [CLASSES, None])
def test_a_network_that_gives_no_numbers_has_no_maps(images: Tensor, kind, classes: Tensor | None) -> None:
    broken = network("kdcam:resnet8", 16)
    with torch.no_grad():
        list(broken.network.parameters())[-1][1] = torch.inf  # the bias of one class
    with pytest.raises(ModelError, match=r"the logits of 4 of 4 images are not finite"):
        batch_maps(broken, images, classes, kind)
