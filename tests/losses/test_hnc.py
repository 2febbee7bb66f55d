import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import mse_loss, one_hot

from kdcam.losses.hnc import hnc_kd, hnc_mse

# One image, two channels on a 1x2 map; maps with bias: class 0 [1, 3], class 1 [0.5, 2.5], class 2 [0, 0].
# Their means, the logits, are 2, 1.5 and 0.
FEATURE_MAP = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])
WEIGHT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]])
BIAS = torch.tensor([0.0, 0.5, -1.0])
LABEL = torch.tensor([0])


def some(
    images: int = 4, classes: int = 7, channels: int = 3, height: int = 2, width: int = 5
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(classes, (images,), generator=generator)
    return draw(images, channels, height, width), draw(classes, channels), draw(classes), labels


def negative_maps(
    feature_map: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, top_k: int
) -> list[Tensor]:
    """Return the chosen maps one by one, by loops."""
    found = []
    for image, row in zip(feature_map, rows, strict=True):
        maps = {
            k: sum(weight[k, c] * image[c] for c in range(len(image))) + bias[k]
            for k in range(len(weight))
            if row[k] == 0
        }
        strongest = sorted(maps, key=lambda k: -float(maps[k].mean()))[:top_k]
        found += [maps[k] for k in strongest]
    return found


@pytest.mark.parametrize(
    ("top_k", "alpha", "expected"),
    [(1, 0.0, (0.25 + 6.25) / 2), (2, 0.0, 3.25 / 2), (1, 1.0, (0.25 + 2.25) / 2), (9, 0.0, 3.25 / 2)],
)
def test_mse_hand_worked(top_k: int, alpha: float, expected: float) -> None:
    value = hnc_mse(FEATURE_MAP, WEIGHT, BIAS, LABEL, top_k=top_k, alpha=alpha)
    assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize(("temperature", "gap"), [(1.0, 2.0), (4.0, 0.5)])
def test_kd_hand_worked(temperature: float, gap: float) -> None:
    # Softmax over two positions that differ by gap: sigmoid(gap) and sigmoid(-gap); class 2 is flat and adds 0.
    high, low = 1 / (1 + math.exp(-gap)), 1 / (1 + math.exp(gap))
    expected = -(math.log(high) + math.log(low)) / 2 - math.log(2)
    for top_k, share in ((1, 1.0), (2, 0.5)):
        value = hnc_kd(FEATURE_MAP, WEIGHT, BIAS, LABEL, top_k=top_k, temperature=temperature)
        assert value.item() == pytest.approx(share * expected, rel=1e-5)


@pytest.mark.parametrize("top_k", [1, 3, 6])
def test_equals_loops_over_images_and_classes(top_k: int) -> None:
    # With 3 channels the rows of up to 23 classes are smaller than all maps; with 90 channels they are not.
    for channels in (3, 90):
        feature_map, weight, bias, labels = some(channels=channels)
        maps = negative_maps(feature_map, weight, bias, one_hot(labels, 7), top_k)
        squares = torch.stack([(one - 0.3).square().mean() for one in maps]).mean()
        torch.testing.assert_close(
            hnc_mse(feature_map, weight, bias, labels, top_k=top_k, alpha=0.3), squares, rtol=1e-9, atol=1e-9
        )
        flat = [(one / 2).flatten() for one in maps]
        divergences = torch.stack([-(one.log_softmax(0)).mean() - math.log(10) for one in flat]).mean()
        torch.testing.assert_close(
            hnc_kd(feature_map, weight, bias, labels, top_k=top_k, temperature=2.0),
            divergences,
            rtol=1e-9,
            atol=1e-9,
        )


def test_weights_of_the_released_code_map_to_ours() -> None:
    """GuoleiSun/HNC_loss: mse is torch's mean; kd sums over the k classes, divides by N and keeps k log(HW)."""
    feature_map, weight, bias, labels = some(images=3, classes=120, channels=4, height=7, width=7)
    maps = negative_maps(feature_map, weight, bias, one_hot(labels, 120), 100)
    selected = torch.stack(maps)
    ours = 0.07 * hnc_mse(feature_map, weight, bias, labels, top_k=100, alpha=0.0)
    torch.testing.assert_close(ours, 0.07 * mse_loss(selected, torch.zeros_like(selected)))
    released = -selected.flatten(1).log_softmax(1).mean(1).reshape(3, 100).sum(1).mean()
    without_constant = 0.0065 * (released - 100 * math.log(49))
    ours = 0.65 * hnc_kd(feature_map, weight, bias, labels, top_k=100, temperature=1.0)
    torch.testing.assert_close(ours, without_constant, rtol=1e-8, atol=1e-8)


def test_absent_classes_are_the_negatives_of_several_labels() -> None:
    feature_map, weight, bias, _ = some()
    rows = torch.tensor([[1.0, 0, 1, 0, 0, 0, 0], [1] * 7, [1, 1, 1, 1, 1, 1, 0], [0] * 7])
    maps = negative_maps(feature_map, weight, bias, rows, 3)
    assert len(maps) == 3 + 0 + 1 + 3
    expected = torch.stack([one.square().mean() for one in maps]).mean()
    torch.testing.assert_close(hnc_mse(feature_map, weight, bias, rows, top_k=3, alpha=0.0), expected)


def test_images_that_show_every_class_give_zero() -> None:
    feature_map, weight, bias, _ = some()
    feature_map.requires_grad_()
    for value in (
        hnc_mse(feature_map, weight, bias, torch.ones(4, 7), top_k=3, alpha=0.0),
        hnc_kd(feature_map, weight, bias, torch.ones(4, 7), top_k=3, temperature=1.0),
    ):
        assert value.item() == 0
        assert torch.autograd.grad(value, feature_map)[0].abs().sum() == 0


def test_labels_equal_their_rows_and_mixed_rows_have_no_negative_among_the_mixed() -> None:
    feature_map, weight, bias, labels = some()
    rows = one_hot(labels, 7).double()
    from_labels = hnc_mse(feature_map, weight, bias, labels, top_k=4, alpha=0.0)
    torch.testing.assert_close(hnc_mse(feature_map, weight, bias, rows, top_k=4, alpha=0.0), from_labels)
    mixed = (0.3 * rows + 0.7 * rows.roll(1, 0)).clamp(max=1)
    both = (mixed > 0).double()
    torch.testing.assert_close(
        hnc_mse(feature_map, weight, bias, mixed, top_k=4, alpha=0.0),
        hnc_mse(feature_map, weight, bias, both, top_k=4, alpha=0.0),
    )


def test_kd_is_zero_for_flat_maps_and_blind_to_the_bias() -> None:
    feature_map, weight, bias, labels = some()
    flat = feature_map.mean((2, 3), keepdim=True).expand_as(feature_map)
    assert hnc_kd(flat, weight, bias, labels, top_k=3, temperature=1.0).item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(
        hnc_kd(feature_map, weight, bias + 5, labels, top_k=6, temperature=1.0),
        hnc_kd(feature_map, weight, None, labels, top_k=6, temperature=1.0),
    )


def test_gradients_agree_with_finite_differences_and_reach_all() -> None:
    feature_map, weight, bias, labels = some()
    leaves = tuple(tensor.requires_grad_() for tensor in (feature_map, weight, bias))
    assert torch.autograd.gradcheck(lambda f, w, b: hnc_mse(f, w, b, labels, top_k=3, alpha=0.2), leaves)
    assert torch.autograd.gradcheck(lambda f, w, b: hnc_kd(f, w, b, labels, top_k=3, temperature=2.0), leaves)
    value = hnc_mse(feature_map, weight, bias, labels, top_k=3, alpha=0.2)
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(value, leaves))
