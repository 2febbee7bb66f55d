"""Tests of kdcam.cam.maps: hand-worked numbers, torchcam, grad-cam, and the edges of min-max."""

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdcam.cam.maps import (
    caam,
    class_cams,
    grad_cam,
    hires_cam,
    map_similarity,
    minmax_normalize,
    pool_to_smaller,
    target_cam,
)


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    import timm

    torch.manual_seed(0)
    return timm.create_model("resnet18", num_classes=7).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def test_caam_is_the_sum_over_channels() -> None:
    feature_map = torch.tensor([[[[1.0, 2.0]], [[10.0, -20.0]]]])  # (1, 2, 1, 2)
    assert caam(feature_map).tolist() == [[[11.0, -18.0]]]


def test_class_cams_by_hand() -> None:
    feature_map = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    weight = torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.0, 0.5]])
    cams = class_cams(feature_map, weight)
    assert cams.tolist() == [[[[1.0, 2.0]], [[-1.0, 0.0]], [[1.5, 2.0]]]]
    shifted = class_cams(feature_map, weight, torch.tensor([0.0, 1.0, -1.0]))
    assert shifted.tolist() == [[[[1.0, 2.0]], [[0.0, 1.0]], [[0.5, 1.0]]]]


def test_target_cam_is_the_labels_class_cam() -> None:
    feature_map, weight, targets = torch.randn(3, 5, 4, 6), torch.randn(4, 5), torch.tensor([2, 0, 3])
    expected = class_cams(feature_map, weight)[torch.arange(3), targets]
    torch.testing.assert_close(target_cam(feature_map, weight, targets), expected)


def test_target_cam_of_rows_is_the_weighted_sum() -> None:
    feature_map, weight = torch.randn(2, 5, 4, 6), torch.randn(3, 5)
    rows = torch.tensor([[0.7, 0.3, 0.0], [1.0, 0.0, 1.0]])
    expected = (rows[:, :, None, None] * class_cams(feature_map, weight)).sum(1)
    torch.testing.assert_close(target_cam(feature_map, weight, rows), expected)


def test_a_label_and_its_one_hot_row_agree_when_images_equal_classes() -> None:
    feature_map, weight, targets = torch.randn(3, 5, 4, 6), torch.randn(3, 5), torch.tensor([2, 0, 1])
    one_hot = nn.functional.one_hot(targets, 3).float()
    torch.testing.assert_close(
        target_cam(feature_map, weight, one_hot), target_cam(feature_map, weight, targets)
    )


def test_mean_of_the_cams_with_bias_is_the_logits(resnet18: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        feature_map, logits = resnet18.forward_features(images), resnet18(images)
    cams = class_cams(feature_map, resnet18.fc.weight, resnet18.fc.bias)
    torch.testing.assert_close(cams.mean((2, 3)), logits, rtol=1e-5, atol=1e-5)


def test_cam_equals_torchcam(resnet18: nn.Module, images: Tensor) -> None:
    from torchcam.methods import CAM

    labels = [3, 5]
    with CAM(resnet18, "layer4", "fc") as extractor:
        scores = resnet18(images)
        expected = extractor(labels, scores, normalized=False)[0]
    ours = target_cam(resnet18.forward_features(images), resnet18.fc.weight, torch.tensor(labels))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_cam_equals_grad_cam_up_to_the_number_of_positions(resnet18: nn.Module, images: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    feature_map = resnet18.forward_features(images)
    with GradCAM(model=resnet18, target_layers=[resnet18.layer4]) as peer:
        peer.activations_and_grads(images)
        logits = peer.activations_and_grads(images)
        sum(ClassifierOutputTarget(4)(row) for row in logits).backward()
        activations = peer.activations_and_grads.activations[-1].numpy()
        gradients = peer.activations_and_grads.gradients[0].numpy()
        raw = peer.get_cam_image(images, resnet18.layer4, None, activations, gradients, eigen_smooth=False)
    ours = target_cam(feature_map, resnet18.fc.weight, torch.full((2,), 4))
    positions = feature_map.shape[2] * feature_map.shape[3]
    torch.testing.assert_close(ours.detach(), torch.from_numpy(raw) * positions, rtol=1e-4, atol=1e-5)
    resnet18.zero_grad()


def test_grad_cam_and_hires_cam_by_hand() -> None:
    feature_map = torch.tensor([[[[1.0, 2.0]], [[3.0, -4.0]]]])
    gradient = torch.tensor([[[[2.0, 0.0]], [[-1.0, 1.0]]]])
    # channel means of the gradient: 1 and 0
    assert grad_cam(feature_map, gradient).tolist() == [[[1.0, 2.0]]]
    assert grad_cam(-feature_map, gradient).tolist() == [[[0.0, 0.0]]]
    assert hires_cam(feature_map, gradient).tolist() == [[[-1.0, -4.0]]]


def test_grad_cam_and_hires_cam_are_the_cam_over_the_positions(resnet18: nn.Module, images: Tensor) -> None:
    feature_map = resnet18.forward_features(images)
    (gradient,) = torch.autograd.grad(resnet18.forward_head(feature_map)[:, 4].sum(), feature_map)
    cam = target_cam(feature_map, resnet18.fc.weight, torch.full((2,), 4)) / feature_map[0, 0].numel()
    torch.testing.assert_close(hires_cam(feature_map, gradient), cam, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(grad_cam(feature_map, gradient), cam.relu(), rtol=1e-4, atol=1e-6)


class FullyConnected(nn.Module):
    """A network whose classifier reads every position: its gradient is not the same at all of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 7 * 7, 12), nn.Tanh(), nn.Linear(12, 5))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def map_and_gradient(model: FullyConnected, images: Tensor, index: int) -> tuple[Tensor, Tensor]:
    feature_map = model.features(images)
    (gradient,) = torch.autograd.grad(model.head(feature_map)[:, index].sum(), feature_map)
    return feature_map.detach(), gradient


@pytest.mark.parametrize(("name", "ours"), [("GradCAM", grad_cam), ("HiResCAM", hires_cam)])
def test_gradient_maps_equal_the_package_grad_cam(name: str, ours) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_grad_cam

    model, images = FullyConnected().eval(), torch.rand(2, 3, 33, 33)
    feature_map, gradient = map_and_gradient(model, images, 2)
    with getattr(pytorch_grad_cam, name)(model=model, target_layers=[model.features]) as peer:
        raw = peer.get_cam_image(
            images, model.features, None, feature_map.numpy(), gradient.numpy(), eigen_smooth=False
        )
    # the package cuts off what is below 0 afterwards, of both
    expected = torch.from_numpy(raw).relu()
    torch.testing.assert_close(ours(feature_map, gradient).relu(), expected, rtol=1e-4, atol=1e-7)
    assert expected.max() > 0


def test_grad_cam_equals_torchcam() -> None:
    from torchcam.methods import GradCAM

    model, images = FullyConnected().eval(), torch.rand(2, 3, 33, 33)
    with GradCAM(model, "features") as extractor:
        scores = model(images)
        expected = extractor([2, 2], scores, normalized=False)[0]
    torch.testing.assert_close(grad_cam(*map_and_gradient(model, images, 2)), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("ours", [grad_cam, hires_cam])
def test_a_gradient_of_another_shape_is_refused(ours) -> None:
    with pytest.raises(
        ValueError, match=r"gradient of shape \(2, 3\) for a feature map of shape \(2, 3, 4, 4\)"
    ):
        ours(torch.rand(2, 3, 4, 4), torch.rand(2, 3))
    with pytest.raises(ValueError, match="feature map has shape"):
        ours(torch.rand(3, 4), torch.rand(3, 4))


@pytest.mark.parametrize("ours", [grad_cam, hires_cam])
def test_gradient_maps_of_half_precision_are_wide(ours) -> None:
    feature_map = torch.full((1, 400, 2, 2), 100.0, dtype=torch.float16)
    found = ours(feature_map, torch.full_like(feature_map, 10.0))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((1, 2, 2), 400_000.0))


def test_minmax_spans_zero_to_one_for_each_map_on_its_own() -> None:
    maps = torch.tensor([[[1.0, 2.0], [3.0, 5.0]], [[-40.0, 0.0], [-30.0, -20.0]]])
    expected = [[[0.0, 0.25], [0.5, 1.0]], [[0.0, 1.0], [0.25, 0.5]]]
    torch.testing.assert_close(minmax_normalize(maps), torch.tensor(expected))


def test_minmax_is_over_the_map_not_over_its_rows() -> None:
    normal = minmax_normalize(torch.tensor([[[0.0, 1.0], [9.0, 10.0]]]))
    torch.testing.assert_close(normal, torch.tensor([[[0.0, 0.1], [0.9, 1.0]]]))


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e4])
def test_minmax_ignores_scale_and_order_of_dimensions(scale: float) -> None:
    maps = torch.rand(2, 3, 5, 4)
    normal = minmax_normalize(maps)
    torch.testing.assert_close(minmax_normalize(scale * maps), normal, rtol=1e-4, atol=1e-5)
    assert normal.amin((2, 3)).eq(0).all()
    assert normal.amax((2, 3)).eq(1).all()
    torch.testing.assert_close(minmax_normalize(maps[1, 2]), normal[1, 2])


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-5, 3.0, -7.0, 1e30])
@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 1, 1)])
def test_constant_maps_give_zeros_and_a_finite_gradient(value: float, shape: tuple[int, ...]) -> None:
    maps = torch.full(shape, value, requires_grad=True)
    normal = minmax_normalize(maps)
    (normal * torch.rand(shape)).sum().backward()
    assert normal.eq(0).all()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


def test_a_zero_map_has_a_small_gradient() -> None:
    maps = torch.zeros(1, 4, 4, requires_grad=True)
    minmax_normalize(maps)[0, 1, 1].backward()
    assert maps.grad is not None
    assert maps.grad.abs().max() <= 1


def test_nearly_flat_maps_have_a_bounded_gradient() -> None:
    maps = (1 + 1e-6 * torch.rand(1, 4, 4, dtype=torch.float64)).requires_grad_()
    normal = minmax_normalize(maps, eps=1e-3)
    normal[0, 1, 1].backward()
    assert normal.max() < 2e-3
    assert maps.grad is not None
    assert maps.grad.abs().max() <= 1001


def test_minmax_computes_half_precision_in_float32() -> None:
    maps = torch.tensor(
        [[[60000.0, -60000.0], [1.0, 2.0]]], dtype=torch.float16
    )  # the range overflows float16
    normal = minmax_normalize(maps)
    assert normal.dtype == torch.float32
    assert normal.amax() == 1


def test_minmax_shows_a_nan() -> None:
    assert minmax_normalize(torch.tensor([[[1.0, torch.nan]]])).isnan().all()


def test_sums_over_channels_do_not_overflow_half_precision() -> None:
    feature_map = torch.full((1, 512, 2, 2), 300.0, dtype=torch.float16)
    weight, targets = torch.ones(2, 512, dtype=torch.float16), torch.tensor([0])
    for maps in (
        caam(feature_map),
        target_cam(feature_map, weight, targets),
        class_cams(feature_map, weight),
    ):
        assert maps.dtype == torch.float32
        assert maps.unique().tolist() == [153600.0]


def test_autocast_changes_nothing() -> None:
    feature_map, weight, targets = torch.randn(2, 8, 3, 3), torch.randn(4, 8), torch.tensor([1, 3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = [class_cams(feature_map, weight), target_cam(feature_map, weight, targets)]
    assert torch.equal(inside[0], class_cams(feature_map, weight))
    assert torch.equal(inside[1], target_cam(feature_map, weight, targets))


def test_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    feature_map = torch.rand(2, 3, 2, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, generator=generator, requires_grad=True)
    targets = torch.tensor([0, 2])
    rows = torch.rand(2, 4, dtype=torch.float64, generator=generator)
    flat = (1 + 1e-4 * torch.rand(1, 2, 3, dtype=torch.float64, generator=generator)).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: minmax_normalize(caam(f)), feature_map)
    assert torch.autograd.gradcheck(class_cams, (feature_map, weight, bias))
    assert torch.autograd.gradcheck(lambda f, w: target_cam(f, w, targets), (feature_map, weight))
    assert torch.autograd.gradcheck(lambda f, w: target_cam(f, w, rows), (feature_map, weight))
    assert torch.autograd.gradcheck(minmax_normalize, flat, eps=1e-7)


def test_memory_format_does_not_matter() -> None:
    feature_map, weight, targets = torch.randn(2, 8, 3, 5), torch.randn(4, 8), torch.tensor([1, 3])
    last = feature_map.to(memory_format=torch.channels_last)
    torch.testing.assert_close(target_cam(last, weight, targets), target_cam(feature_map, weight, targets))
    torch.testing.assert_close(caam(last), caam(feature_map))


def test_shapes_that_do_not_fit_are_named() -> None:
    feature_map, weight = torch.rand(2, 3, 4, 4), torch.rand(5, 3)
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)"):
        caam(torch.rand(2, 3, 4))
    with pytest.raises(ValueError, match=r"\(5, 7\).*\(2, 3, 4, 4\)"):
        class_cams(feature_map, torch.rand(5, 7))
    with pytest.raises(ValueError, match=r"\(5, 7\)"):
        target_cam(feature_map, torch.rand(5, 7), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"targets of shape \(3,\)"):
        target_cam(feature_map, weight, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"targets of shape \(2, 4\)"):
        target_cam(feature_map, weight, torch.rand(2, 4))


def test_two_maps_are_pooled_to_the_smaller_height_and_width() -> None:
    first, second = torch.rand(2, 3, 6), torch.rand(2, 5, 4)
    one, other = pool_to_smaller(first, second)
    assert one.shape == other.shape == (2, 3, 4)
    torch.testing.assert_close(one, torch.nn.functional.adaptive_avg_pool2d(first, (3, 4)))


def test_maps_of_one_size_are_left_alone() -> None:
    maps = torch.rand(2, 4, 4)
    assert pool_to_smaller(maps, maps)[0] is maps


def random_maps(images: int, side: int, seed: int = 0) -> Tensor:
    return torch.randn(images, side, side, generator=torch.Generator().manual_seed(seed))


def test_similarity_is_numpys_correlation() -> None:
    one, other = random_maps(5, 4, 1), random_maps(5, 4, 2)
    expected = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(one, other, strict=True)]
    assert map_similarity(one, other).tolist() == pytest.approx(expected, abs=1e-6)


def test_similarity_of_a_hand_worked_pair() -> None:
    one = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    other = torch.tensor([[[1.0, 3.0], [2.0, 4.0]]])
    # Centred: (-1.5, -0.5, 0.5, 1.5) and (-1.5, 0.5, -0.5, 1.5): 4 / 5.
    assert map_similarity(one, other).item() == pytest.approx(0.8, abs=1e-6)


def test_scale_and_offset_do_not_count_for_similarity_and_the_sign_does() -> None:
    one = random_maps(3, 6)
    torch.testing.assert_close(map_similarity(one, 250 * one - 7), torch.ones(3))
    torch.testing.assert_close(map_similarity(one, 1e-20 * one), torch.ones(3))
    torch.testing.assert_close(map_similarity(one, -one), -torch.ones(3))


def test_a_constant_map_is_like_nothing() -> None:
    maps = random_maps(4, 3)
    flat = torch.stack([torch.zeros(3, 3), torch.full((3, 3), 0.1), torch.full((3, 3), -1e30), maps[3]])
    torch.testing.assert_close(map_similarity(flat, maps), torch.tensor([0.0, 0.0, 0.0, 1.0]))
    torch.testing.assert_close(map_similarity(maps, flat)[:3], torch.zeros(3))
    assert map_similarity(random_maps(2, 1), random_maps(2, 1, 5)).tolist() == [0.0, 0.0]


def test_similarity_pools_the_larger_map_to_the_smaller() -> None:
    small = random_maps(3, 4)
    large = small.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    torch.testing.assert_close(map_similarity(large, small), torch.ones(3))
    torch.testing.assert_close(map_similarity(small, large), torch.ones(3))


def test_similarity_widens_half_precision() -> None:
    maps = 300 * random_maps(3, 8)
    assert map_similarity(maps.half(), maps).min() > 0.9999


@pytest.mark.parametrize("shape", [(2, 3), (3, 4, 4), (2, 1, 4, 4)])
def test_similarity_of_other_shapes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"wanted \(N, H, W\) and \(N, H', W'\)"):
        map_similarity(torch.zeros(2, 4, 4), torch.zeros(shape))
