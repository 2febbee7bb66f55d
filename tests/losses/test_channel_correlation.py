import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from kdcam.losses.channel_correlation import (
    RATIO_EPS,
    ChannelCorrelationConfig,
    Distances,
    channel_correlation,
    class_mean_distances,
    pair_distances,
)
from kdcam.losses.loss import Shapes
from kdcam.models.classifier import Widths

# Class 0: (0.1, 0.1) and (0.4, 0.5), 0.5 apart; class 1: (0.1, 0.5), 0.4 and 0.3 away from them.
ATTENTION = torch.tensor([[0.1, 0.1], [0.4, 0.5], [0.1, 0.5]])
LABELS = torch.tensor([0, 0, 1])
ROOT = 2**0.5  # distances are root mean squares over the two channels


def test_pairs_hand_worked() -> None:
    pull, push, has_push = pair_distances(ATTENTION, LABELS, squared=False)
    assert pull.item() == pytest.approx(0.5 / ROOT, rel=1e-5)
    assert push.item() == pytest.approx((0.4 + 0.3) / 2 / ROOT, rel=1e-5)
    assert has_push


def test_squared_pairs_hand_worked() -> None:
    pull, push, _ = pair_distances(ATTENTION, LABELS, squared=True)
    assert pull.item() == pytest.approx(0.25 / 2, rel=1e-5)
    assert push.item() == pytest.approx((0.16 + 0.09) / 2 / 2, rel=1e-5)


def test_class_means_hand_worked() -> None:
    # The mean of class 0 is (0.25, 0.3): both its images are 0.25 away, class 1's is 0.25 away as well.
    # Class 1 has one image, so it pulls nothing; its mean (0.1, 0.5) is 0.4 and 0.3 away from class 0's.
    pull, push, has_push = class_mean_distances(ATTENTION, LABELS, num_classes=4, squared=False)
    assert pull.item() == pytest.approx(0.25 / ROOT, rel=1e-5)
    assert push.item() == pytest.approx((0.4 + 0.3 + 0.25) / 3 / ROOT, rel=1e-5)
    assert has_push


@pytest.mark.parametrize(
    ("form", "expected"),
    [("ratio", (0.3 + RATIO_EPS) / (0.1 + RATIO_EPS)), ("difference", 0.2), ("margin", 0.3 + 0.15)],
)
def test_forms_hand_worked(form: str, expected: float) -> None:
    distances = Distances(torch.tensor(0.3), torch.tensor(0.1), torch.tensor(True))
    value = channel_correlation(distances, form=form, margin=0.25)  # type: ignore[arg-type]
    assert value.item() == pytest.approx(expected)


def test_margin_that_is_kept_costs_nothing() -> None:
    distances = Distances(torch.tensor(0.3), torch.tensor(0.5), torch.tensor(True))
    assert channel_correlation(distances, form="margin", margin=0.25).item() == pytest.approx(0.3)


@pytest.mark.parametrize("form", ["ratio", "difference", "margin"])
@pytest.mark.parametrize("comparison", ["pairs", "class-means"])
@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 1, 1]], ids=["no pair of one class", "one class"])
def test_batches_without_pairs_give_no_nan(form: str, comparison: str, labels: list[int]) -> None:
    attention = ATTENTION.clone().requires_grad_()
    targets = torch.tensor(labels)
    if comparison == "pairs":
        distances = pair_distances(attention, targets, squared=False)
    else:
        distances = class_mean_distances(attention, targets, num_classes=3, squared=False)
    value = channel_correlation(distances, form=form, margin=0.2)  # type: ignore[arg-type]
    value.backward()
    assert torch.isfinite(value)
    assert attention.grad is not None
    assert torch.isfinite(attention.grad).all()
    if labels == [0, 1, 2]:
        assert distances.pull.item() == 0
    else:
        assert distances.push.item() == 0
        assert form != "ratio" or value.item() == 0


def test_equal_attention_gives_zero_and_a_finite_gradient() -> None:
    attention = torch.full((4, 8), 0.5, requires_grad=True)
    distances = pair_distances(attention, torch.tensor([0, 0, 1, 1]), squared=False)
    assert distances.pull.item() == 0
    (distances.pull - distances.push).backward()
    assert attention.grad is not None
    assert torch.isfinite(attention.grad).all()


def test_small_differences_survive_float32() -> None:
    torch.manual_seed(0)
    attention = 0.5 + 1e-4 * torch.randn(64, 128, dtype=torch.float64)
    targets = torch.arange(64) % 8
    exact = pair_distances(attention, targets, squared=False)
    rough = pair_distances(attention.float(), targets, squared=False)
    torch.testing.assert_close(rough.pull.double(), exact.pull, rtol=1e-3, atol=0)
    reference = torch.cdist(attention, attention) / 128**0.5
    same = targets[:, None] == targets
    torch.testing.assert_close(exact.push, reference[~same].mean(), rtol=1e-8, atol=0)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("form", ["ratio", "difference", "margin"])
def test_gradient_agrees_with_finite_differences(form: str, squared: bool) -> None:
    torch.manual_seed(0)
    attention = torch.rand(6, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 0, 1, 1, 2, 0])

    def by_pairs(values: Tensor) -> Tensor:
        return channel_correlation(
            pair_distances(values, targets, squared=squared),
            form=form,  # type: ignore[arg-type]
            margin=0.9,
        )

    def by_means(values: Tensor) -> Tensor:
        distances = class_mean_distances(values, targets, num_classes=4, squared=squared)
        return channel_correlation(distances, form=form, margin=0.9)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(by_pairs, attention)
    assert torch.autograd.gradcheck(by_means, attention)


def test_order_of_the_images_does_not_matter() -> None:
    torch.manual_seed(0)
    attention, targets, order = torch.rand(10, 6), torch.arange(10) % 3, torch.randperm(10)
    one = pair_distances(attention, targets, squared=False)
    other = pair_distances(attention[order], targets[order], squared=False)
    torch.testing.assert_close(one, other)


def test_margin_without_its_form_is_refused() -> None:
    with pytest.raises(ValidationError, match=r'margin = 0\.3 counts with form = "margin" only'):
        ChannelCorrelationConfig(margin=0.3)
    assert ChannelCorrelationConfig(margin=0.3, form="margin").margin == 0.3


def test_constant_attention_is_no_minimum_of_the_ratio() -> None:
    torch.manual_seed(0)
    targets = torch.tensor([0, 0, 1, 1])
    attention = torch.rand(2, 8).repeat_interleave(2, 0) + 0.1 * torch.rand(4, 8)
    values = [
        channel_correlation(
            pair_distances(0.5 + scale * attention, targets, squared=False), form="ratio", margin=0.2
        ).item()
        for scale in (1.0, 1e-2, 1e-4, 0.0)
    ]
    assert values == sorted(values)
    assert values[-1] == 1


@pytest.mark.parametrize(("form", "collapsed"), [("ratio", 1.0), ("difference", 0.0), ("margin", 0.2)])
def test_warns_when_the_attention_is_the_same_for_all_images(form: str, collapsed: float) -> None:
    config = ChannelCorrelationConfig.model_validate({"form": form})
    shapes = Shapes("single-label", 3, torch.arange(3), Widths(4, 4, 2, 2), None)
    warning = config.diagnose({"channel_correlation": collapsed}, shapes)
    assert warning is not None
    assert "hidden units" in warning
    assert config.diagnose({"channel_correlation": collapsed - 0.01}, shapes) is None
    assert config.diagnose({"cross_entropy": 1.0}, shapes) is None
