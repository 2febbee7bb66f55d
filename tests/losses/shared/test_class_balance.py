from decimal import Decimal, localcontext

import pytest
import torch

from kdcam.losses.loss import Shapes
from kdcam.losses.shared.class_balance import class_weights, image_weights, training_weights
from kdcam.models.classifier import Widths


def in_decimals(counts: list[int], beta: float) -> list[float]:
    """Return the weights by the paper's formula, worked out with 60 digits."""
    with localcontext() as context:
        context.prec = 60
        base = Decimal(beta)
        each = [(1 - base) / (1 - base**count) for count in counts]
        return [float(weight * len(counts) / sum(each)) for weight in each]


def test_hand_worked_value() -> None:
    # (1 - 0.5) / (1 - 0.5^n) for 1, 2 and 3 images: 1, 2/3 and 4/7; their sum is 47/21.
    expected = [3 * weight * 21 / 47 for weight in (1, 2 / 3, 4 / 7)]
    assert class_weights(torch.tensor([1, 2, 3]), 0.5).tolist() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("beta", [0.9, 0.99, 0.999, 0.9999])
def test_published_betas_on_a_long_tail_equal_the_formula(beta: float) -> None:
    # CIFAR-10 with a hundredth of the images in the rarest class.
    counts = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    effective = [(1 - beta) / (1 - beta**count) for count in counts]
    expected = [weight / sum(effective) * 10 for weight in effective]
    found = class_weights(torch.tensor(counts), beta)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)
    assert found.sum().item() == pytest.approx(10)


@pytest.mark.parametrize("beta", [1e-9, 0.9, 1 - 1e-9, 1 - 1e-15])
def test_large_counts_and_betas_near_one_keep_their_digits(beta: float) -> None:
    counts = [1, 10, 1000, 10**6, 10**9]
    assert class_weights(torch.tensor(counts), beta).tolist() == pytest.approx(
        in_decimals(counts, beta), rel=1e-12
    )


def test_ends_are_even_weights_and_inverse_counts() -> None:
    counts = torch.tensor([1, 4, 100])
    assert class_weights(counts, 0.0).tolist() == [1.0, 1.0, 1.0]
    inverse = 1 / counts.double()
    torch.testing.assert_close(
        class_weights(counts, 1 - 1e-13), 3 * inverse / inverse.sum(), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("beta", [0.0, 0.999])
def test_classes_without_images_weigh_nothing_and_leave_the_mean_of_the_others_at_one(beta: float) -> None:
    weights = class_weights(torch.tensor([0, 10, 0, 1000]), beta)
    assert weights[[0, 2]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(weights[[1, 3]], class_weights(torch.tensor([10, 1000]), beta))
    assert weights.sum().item() == pytest.approx(2)


def test_no_images_at_all_are_an_error() -> None:
    with pytest.raises(ValueError, match="none of 3 classes has an image"):
        class_weights(torch.zeros(3), 0.9)


def test_training_weights_count_the_labels() -> None:
    shapes = Shapes("single-label", 4, torch.tensor([0, 2, 2, 0, 2, 1]), Widths(4, 4, 2, 2), None)
    weights = training_weights(shapes, 0.9)
    assert weights is not None
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.double(), class_weights(torch.tensor([2, 1, 3, 0]), 0.9))
    assert training_weights(shapes, 0.0) is None


def test_weight_of_an_image_is_its_labels_or_the_mixture_of_two() -> None:
    weights = torch.tensor([0.5, 1.0, 1.5])
    assert image_weights(torch.tensor([2, 0, 0]), weights).tolist() == [1.5, 0.5, 0.5]
    rows = torch.tensor([[0.75, 0.0, 0.25], [0.0, 1.0, 0.0]])
    assert image_weights(rows, weights).tolist() == [0.75, 1.0]
