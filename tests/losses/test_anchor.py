import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from kdcam.losses.anchor import AnchorLossConfig, anchor_loss
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, Widths

BOTH = pytest.mark.parametrize("anchor", ["negative", "positive"])
# Sigmoids 0.75 (the label), 0.5 and 0.2.
LOGITS, LABEL = torch.tensor([[math.log(3), 0.0, -math.log(4)]]), torch.tensor([0])


def some(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(6, 5, dtype=dtype, generator=generator), torch.arange(6) % 5


def looped(logits: Tensor, labels: Tensor, gamma: float, slack: float, anchor: str) -> float:
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        q = [1 / (1 + math.exp(-x)) for x in row]
        highest = min(1.0, max(value for j, value in enumerate(q) if j != label) + slack)
        lowest = max(0.0, q[label] - slack)
        for j, value in enumerate(q):
            if j == label:
                scale = (1 - value + highest) ** gamma if anchor == "positive" else 1.0
                total -= scale * math.log(value)
            else:
                scale = (1 + value - lowest) ** gamma if anchor == "negative" else 1.0
                total -= scale * math.log(1 - value)
    return total / len(logits)


def test_negative_anchor_hand_worked() -> None:
    # Slack 0.05: q of the label counts as 0.7.
    expected = -math.log(0.75) - 0.8**0.5 * math.log(0.5) - 0.5**0.5 * math.log(0.8)
    assert anchor_loss(LOGITS, LABEL, gamma=0.5, slack=0.05, anchor="negative").item() == pytest.approx(
        expected
    )


def test_positive_anchor_hand_worked() -> None:
    # Slack 0.05: the strongest wrong class counts as 0.55.
    expected = -(0.8**0.5) * math.log(0.75) - math.log(0.5) - math.log(0.8)
    assert anchor_loss(LOGITS, LABEL, gamma=0.5, slack=0.05, anchor="positive").item() == pytest.approx(
        expected
    )


@BOTH
@pytest.mark.parametrize(("gamma", "slack"), [(0.5, 0.05), (2.0, 0.0), (1.0, 0.9)])
def test_equals_a_double_loop(anchor: str, gamma: float, slack: float) -> None:
    logits, labels = some()
    value = anchor_loss(logits, labels, gamma=gamma, slack=slack, anchor=anchor)  # type: ignore[arg-type]
    assert value.item() == pytest.approx(looped(logits, labels, gamma, slack, anchor), rel=1e-12)


@BOTH
def test_without_gamma_it_is_binary_cross_entropy_summed_over_classes(anchor: str) -> None:
    logits, labels = some()
    expected = binary_cross_entropy_with_logits(logits, one_hot(labels, 5).double()) * 5
    value = anchor_loss(logits, labels, gamma=0.0, slack=0.05, anchor=anchor)  # type: ignore[arg-type]
    torch.testing.assert_close(value, expected)


def with_held_anchors(logits: Tensor, held: Tensor, labels: Tensor, anchor: str) -> Tensor:
    """The loss with the anchors taken from other logits, which finite differences then leave alone."""
    q, own = logits.sigmoid(), one_hot(labels, 5).bool()
    far = held.sigmoid()
    highest = (far.masked_fill(own, 0).amax(1, keepdim=True) + 0.05).clamp(max=1)
    lowest = (far[own][:, None] - 0.05).clamp(min=0)
    scale = (
        torch.where(own, 1 - q + highest, 1) if anchor == "positive" else torch.where(own, 1, 1 + q - lowest)
    )
    entropy = binary_cross_entropy_with_logits(logits, own.to(q.dtype), reduction="none")
    return (scale**0.5 * entropy).sum(1).mean()


@BOTH
def test_anchors_have_no_gradient_and_the_rest_agrees_with_finite_differences(anchor: str) -> None:
    logits, labels = some()
    logits.requires_grad_()
    value = anchor_loss(logits, labels, gamma=0.5, slack=0.05, anchor=anchor)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(value, logits)
    held = logits.detach().clone()
    assert torch.autograd.gradcheck(lambda x: with_held_anchors(x, held, labels, anchor), logits)
    (expected,) = torch.autograd.grad(with_held_anchors(logits, held, labels, anchor), logits)
    torch.testing.assert_close(gradient, expected)


@BOTH
@pytest.mark.parametrize("slack", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saturated_logits_give_finite_gradients(
    anchor: str, slack: float, gamma: float, dtype: torch.dtype
) -> None:
    logits, labels = some(torch.float32)
    sure = 1000 * torch.where(one_hot(labels, 5).bool(), logits.abs(), -logits.abs())
    for extreme in (1000 * logits, sure, -sure):
        leaf = extreme.to(dtype).requires_grad_()
        value = anchor_loss(leaf, labels, gamma=gamma, slack=slack, anchor=anchor)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(value, leaf)
        assert value.dtype == torch.float32
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


def test_a_sure_label_is_worked_out_exactly() -> None:
    # 1 - q of the label is e^-30, which 1 - sigmoid(30) would make 0 in float32.
    value = anchor_loss(torch.tensor([[30.0, -30.0]]), LABEL, gamma=1.0, slack=0.0, anchor="positive")
    assert value.item() == pytest.approx(math.exp(-30) + 2 * math.exp(-60), rel=1e-5)


def test_bfloat16_agrees_with_float32() -> None:
    logits, labels = some(torch.float32)
    exact = anchor_loss(logits, labels, gamma=0.5, slack=0.05, anchor="negative")
    rough = anchor_loss(logits.bfloat16(), labels, gamma=0.5, slack=0.05, anchor="negative")
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0.01)


def test_softmax_trains_the_first_part_of_the_run() -> None:
    logits, labels = some()
    module = AnchorLossConfig(softmax_until=0.1).build(
        Shapes("single-label", 5, labels, Widths(4, 4, 2, 2), None)
    )
    step = Step(Outputs(logits, logits, None, None, None), None, labels, torch.arange(6), 0.05)
    assert torch.equal(module(step), cross_entropy(logits, labels))
    expected = anchor_loss(logits, labels, gamma=0.5, slack=0.05, anchor="negative")
    for progress in (0.1, 1.0):
        assert torch.equal(module(step._replace(progress=progress)), expected)


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"gamma": -1.0}, "gamma"),
        ({"gamma": math.inf}, "gamma"),
        ({"slack": 1.5}, "slack"),
        ({"anchor": "neg"}, "anchor"),
        ({"softmax_until": 1.0}, "softmax_until"),
        (
            {"softmax_until": 0.1, "start": 0.2},
            r"softmax_until = 0.1 has passed .* start = 0.2; leave one out",
        ),
    ],
)
def test_settings_without_sense_are_refused(keys: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        AnchorLossConfig.model_validate(keys)
