"""Tests of kdcam.explanation.class_maps."""

import gc
import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdcam.cam.maps import caam, class_cams
from kdcam.errors import ModelError
from kdcam.explanation.class_maps import MapMethod, explain_image, method_for, shown_classes
from kdcam.explanation.explanation_pictures import drawn_maps
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.models.output_readers import spatial_reader

LOGITS = torch.tensor([0.5, 3.0, -1.0, 2.0, -0.2])


def classifier(name: str, *, image_size: int = 32, task: str = "single-label") -> Classifier:
    torch.manual_seed(0)
    return build_classifier(
        ModelConfig(name=name), num_classes=5, in_channels=3, image_size=image_size, task=task
    ).eval()


@pytest.fixture
def image() -> Tensor:
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (None, [(1, ("predicted",)), (3, ("runner-up",))]),
        (1, [(1, ("label", "predicted")), (3, ("strongest wrong",))]),
        (3, [(3, ("label",)), (1, ("predicted", "strongest wrong"))]),
        (2, [(2, ("label",)), (1, ("predicted", "strongest wrong"))]),
    ],
)
def test_one_label_an_image(label: int | None, expected: list[tuple[int, tuple[str, ...]]]) -> None:
    assert list(shown_classes(LOGITS, task="single-label", label=label)) == expected


@pytest.mark.parametrize(
    ("logits", "label", "expected"),
    [
        (LOGITS, None, [(1, ("predicted",)), (3, ("predicted",)), (0, ("predicted",))]),
        (LOGITS, 3, [(3, ("label", "predicted")), (1, ("predicted",)), (0, ("predicted",))]),
        (LOGITS - 5, None, [(1, ("highest",))]),
        (LOGITS - 5, 1, [(1, ("label", "highest"))]),
        (LOGITS - 5, 2, [(2, ("label",)), (1, ("highest",))]),
        (LOGITS + 5, None, [(index, ("predicted",)) for index in (1, 3, 0, 4)]),  # at most four
    ],
)
def test_several_labels_an_image(
    logits: Tensor, label: int | None, expected: list[tuple[int, tuple[str, ...]]]
) -> None:
    assert list(shown_classes(logits, task="multi-label", label=label)) == expected


def test_chosen_classes_in_their_order_with_what_else_they_are() -> None:
    found = shown_classes(LOGITS, task="single-label", label=2, chosen=[4, 1, 2])
    assert list(found) == [(4, ("chosen",)), (1, ("predicted",)), (2, ("label", "chosen"))]
    other = shown_classes(LOGITS, task="single-label", label=0, chosen=[4])
    assert list(other) == [(4, ("chosen",))]


def test_one_class_has_no_runner_up() -> None:
    assert list(shown_classes(torch.tensor([0.3]), task="single-label")) == [(0, ("predicted",))]


def test_the_mean_of_a_cam_is_the_logit(image: Tensor) -> None:
    model = classifier("kdcam:resnet8")
    found = explain_image(model, image, method="cam", label=2)
    with torch.no_grad():
        outputs = model.outputs(image[None])
    indices = [one.class_index for one in found.shown]
    torch.testing.assert_close(found.class_maps.mean((1, 2)), outputs.logits[0, indices])
    torch.testing.assert_close(
        found.class_maps, class_cams(outputs.feature_map, outputs.weight, outputs.bias)[0, indices]
    )
    torch.testing.assert_close(found.caam, caam(outputs.feature_map)[0])
    torch.testing.assert_close(found.probabilities, outputs.logits[0].softmax(0))
    assert not found.class_maps.requires_grad


def test_gradient_methods_agree_with_the_cam_where_it_is_exact(image: Tensor) -> None:
    model = classifier("kdcam:resnet8")
    cam, gradcam, hirescam = (
        explain_image(model, image, method=method, chosen=[1, 4]) for method in ("cam", "gradcam", "hirescam")
    )
    positions = cam.caam.numel()
    bias = model.outputs(image[None]).bias[[1, 4], None, None].detach()
    torch.testing.assert_close(hirescam.class_maps, (cam.class_maps - bias) / positions, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradcam.class_maps, hirescam.class_maps.relu(), rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_works_where_no_gradient_is_kept_and_with_a_frozen_network(context, image: Tensor) -> None:
    model = classifier("kdcam:resnet8").requires_grad_(False)
    expected = explain_image(model, image, method="gradcam")
    with context():
        found = explain_image(model, image.clone(), method="gradcam")
    torch.testing.assert_close(found.class_maps, expected.class_maps)


def test_several_labels_have_probabilities_of_their_own(image: Tensor) -> None:
    model = classifier("kdcam:resnet8", task="multi-label")
    found = explain_image(model, image, method="cam")
    torch.testing.assert_close(found.probabilities, model(image[None])[0].sigmoid().detach())


def test_a_neck_is_in_the_map(image: Tensor) -> None:
    torch.manual_seed(0)
    config = ModelConfig(name="kdcam:resnet8", channel_attention=True, feature_channels=10)
    model = build_classifier(config, num_classes=5, in_channels=3, image_size=32).eval()
    assert method_for(model, "cam") == "cam"
    found = explain_image(model, image, method="cam")
    expected = model(image[None])[0, [one.class_index for one in found.shown]]
    torch.testing.assert_close(found.class_maps.mean((1, 2)), expected.detach())


@pytest.mark.parametrize("name", ["torchvision:vgg11", "mobilenetv3_small_050"])
def test_a_network_without_an_exact_cam_gets_grad_cam(name: str) -> None:
    model = classifier(name, image_size=64)
    assert method_for(model, "cam") == "gradcam"
    assert method_for(model, "hirescam") == "hirescam"
    found = explain_image(model, torch.rand(3, 64, 64), method="gradcam", chosen=[0])
    assert found.class_maps.shape == (1, *found.caam.shape)
    assert found.class_maps.min() >= 0


def test_a_network_without_a_map_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'torchvision:vit_b_32' has neither a \(N, C, H, W\) map"):
        method_for(classifier("torchvision:vit_b_32", image_size=32), "gradcam")


@pytest.mark.parametrize(("name", "ours"), [("GradCAM", "gradcam"), ("HiResCAM", "hirescam")])
@pytest.mark.parametrize("network", ["resnet", "vit"])
def test_what_is_drawn_are_the_arrays_of_grad_cam(name: str, ours: MapMethod, network: str) -> None:
    peers = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = classifier("kdcam:resnet8" if network == "resnet" else "test_vit", image_size=64)
    if network == "resnet":
        layer, reshape = model.network.get_submodule("layer3"), None
    else:
        layer = model.network.get_submodule("blocks")[-1].norm1
        count = model.network.num_prefix_tokens

        def reshape(tokens: Tensor) -> Tensor:
            return tokens[:, count:].transpose(1, 2).unflatten(2, (4, 4))

    # Both add a small number to the range of a map: of large logits it vanishes.
    with torch.no_grad():
        model.network.get_classifier().weight.mul_(100)
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(2))
    with getattr(peers, name)(model=model, target_layers=[layer], reshape_transform=reshape) as peer:
        expected = torch.from_numpy(peer(picture[None], [ClassifierOutputTarget(3)]))
    found = explain_image(model, picture, method=ours, chosen=[3]).class_maps
    assert float(found.max()) > 1e-3
    drawn = drawn_maps(found.relu(), size=(64, 64))
    torch.testing.assert_close(drawn, expected, atol=1e-4, rtol=0)


def test_maps_by_gradients_keep_nothing() -> None:
    model = classifier("kdcam:resnet8")
    pictures = torch.rand(8, 3, 32, 32)

    def explain(times: int) -> None:
        for number in range(times):
            explain_image(model, pictures[number % 8], method="gradcam", reader=reader)

    reader = spatial_reader(model)
    explain(50)  # what torch keeps for next time
    tensors = _tensors()
    before = _resident_bytes()
    explain(300)
    assert _resident_bytes() - before < 16 * 2**20  # one map's graph has more than 1 MiB
    assert _tensors() <= tensors
    hooks = [*model._forward_hooks, *(hook for part in model.modules() for hook in part._forward_hooks)]
    assert hooks == []


def _tensors() -> int:
    gc.collect()
    return sum(issubclass(type(one), Tensor) for one in gc.get_objects())


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    return pages * resource.getpagesize()


@pytest.mark.parametrize("method", ["cam", "gradcam", "hirescam"])
def test_a_network_that_gives_no_numbers_explains_nothing(image: Tensor, method: MapMethod) -> None:
    broken = classifier("kdcam:resnet8_s2")
    with torch.no_grad():
        list(broken.network.parameters())[-1][1] = torch.inf  # the bias of one class
    with pytest.raises(ModelError, match=r"here: the logits of 1 of 1 images are not finite"):
        explain_image(broken, image, method=method, label=0, place="here")
    with torch.no_grad():
        next(broken.network.parameters()).fill_(torch.nan)
    with pytest.raises(ModelError, match=r"not finite"):
        explain_image(broken, image, method=method, chosen=(0,))
