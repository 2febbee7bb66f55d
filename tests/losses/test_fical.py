import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from two_processes import on_two_processes

from kdcam.losses.fical import Fical, FicalConfig, RunningConfusion, confusion_rates, fical
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, Widths

# Directions (1, 0), (0, 1) and (0.6, 0.8): cosines 0, 0.6 and 0.8.
WEIGHT = torch.tensor([[2.0, 0.0], [0.0, 5.0], [0.3, 0.4]])
SHAPES = Shapes("single-label", 3, torch.arange(3), Widths(2, 2, 2, 2), None)


def looped(weight: Tensor, rates: Tensor) -> float:
    rows, shares = weight.tolist(), rates.tolist()
    total = 0.0
    for i, one in enumerate(rows):
        for j, other in enumerate(rows):
            if i != j:
                dot = sum(a * b for a, b in zip(one, other, strict=True))
                total += shares[i][j] * dot / math.hypot(*one) / math.hypot(*other)
    return total / len(rows)


def batches(steps: int = 4, images: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(images, 3, generator=generator), torch.randint(3, (images,), generator=generator))
        for _ in range(steps)
    ]


def step_of(logits: Tensor, targets: Tensor, weight: Tensor = WEIGHT) -> Step:
    student = Outputs(logits, torch.zeros(len(logits), 2), None, weight, None)
    return Step(student, None, targets, torch.arange(len(logits)), 0.5)


def predicting(classes: list[int]) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), 3).float()


def test_hand_worked_value() -> None:
    # Class 0: a half taken for 2 (cosine 0.6); class 1: a quarter for 0 (cosine 0), a half for 2 (0.8); class 2: none.
    rates = torch.tensor([[0.5, 0.0, 0.5], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]])
    assert fical(WEIGHT, rates).item() == pytest.approx((0.5 * 0.6 + 0.5 * 0.8) / 3)


def test_equals_a_double_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    rates = torch.rand(6, 6, dtype=torch.float64, generator=generator).softmax(1)
    assert fical(weight, rates).item() == pytest.approx(looped(weight, rates), rel=1e-12)


def test_with_even_rates_it_is_the_mean_cosine_of_other_classes() -> None:
    cosines = torch.nn.functional.cosine_similarity(WEIGHT[:, None], WEIGHT[None], dim=2)
    expected = (cosines.sum() - 3) / 3 / 2
    torch.testing.assert_close(fical(WEIGHT, torch.full((3, 3), 0.5)), expected)


def test_without_confusion_it_costs_nothing() -> None:
    assert fical(WEIGHT, torch.eye(3)).item() == 0


def test_gradient_agrees_with_finite_differences() -> None:
    weight = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    rates = torch.rand(4, 4, dtype=torch.float64).softmax(1)
    assert torch.autograd.gradcheck(lambda x: fical(x, rates), weight)


def test_counts_fade_and_include_the_batch() -> None:
    confusion = RunningConfusion(3, momentum=0.5)
    # Two images of 0, one right; one of 1, taken for 2; none of 2.
    rates = confusion(predicting([0, 2, 2]), torch.tensor([0, 0, 1]))
    assert rates.tolist() == [[0.5, 0.0, 0.5], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    rates = confusion(predicting([0, 0]), torch.tensor([0, 2]))
    assert confusion.counts.tolist() == [[1.5, 0.0, 0.5], [0.0, 0.0, 0.5], [1.0, 0.0, 0.0]]
    assert rates.tolist() == [[0.75, 0.0, 0.25], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_without_momentum_the_batch_alone_counts() -> None:
    confusion = RunningConfusion(3, momentum=0.0)
    for logits, targets in batches():
        confusion(logits, targets)
    counts = torch.zeros(3, 3)
    for label, chosen in zip(targets.tolist(), logits.argmax(1).tolist(), strict=True):
        counts[label, chosen] += 1
    assert torch.equal(confusion.counts, counts)


def test_long_forgotten_classes_have_rates_of_zero_not_nan() -> None:
    counts = torch.tensor([[0.0, 0.0], [1e-42, 1e-42]])
    assert confusion_rates(counts).sum().item() == pytest.approx(0, abs=1e-6)


def test_loss_uses_the_rates_that_include_its_batch_and_only_the_classifier_has_a_gradient() -> None:
    weight = WEIGHT.clone().requires_grad_()
    logits = predicting([2, 2]).requires_grad_()
    loss = FicalConfig().build(SHAPES)(step_of(logits, torch.tensor([0, 1]), weight))
    assert loss.item() == pytest.approx((0.6 + 0.8) / 3)
    loss.backward()
    assert logits.grad is None
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_gradient_survives_later_steps() -> None:
    weight = WEIGHT.clone().requires_grad_()
    module = FicalConfig().build(SHAPES)
    losses = [module(step_of(logits, targets, weight)) for logits, targets in batches()]
    sum(losses, torch.zeros(())).backward()  # the counts have moved in place meanwhile
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()


def test_saturated_logits_and_half_precision() -> None:
    logits, targets = batches(1)[0]
    expected = FicalConfig().build(SHAPES)(step_of(logits, targets))
    assert torch.equal(FicalConfig().build(SHAPES)(step_of(1000 * logits, targets)), expected)
    with torch.autocast("cpu", torch.bfloat16):
        rough = FicalConfig().build(SHAPES)(step_of(logits.bfloat16(), targets, WEIGHT.bfloat16()))
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, expected, rtol=0.02, atol=0.01)


def test_going_on_from_a_state_equals_going_on() -> None:
    alone, resumed = FicalConfig().build(SHAPES), FicalConfig().build(SHAPES)
    for logits, targets in batches()[:2]:
        alone(step_of(logits, targets))
    resumed.load_state_dict({name: value.clone() for name, value in alone.state_dict().items()})
    for logits, targets in batches()[2:]:
        assert torch.equal(alone(step_of(logits, targets)), resumed(step_of(logits, targets)))
    assert isinstance(alone, Fical)
    assert torch.equal(alone.confusion.counts, resumed.get_buffer("confusion.counts"))


@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan])
def test_a_momentum_that_forgets_nothing_is_refused(momentum: float) -> None:
    with pytest.raises(ValidationError, match="confusion_momentum"):
        FicalConfig(confusion_momentum=momentum)


def _follow(rank: int | None) -> dict[str, Tensor]:
    """Return the losses and the state after all batches, or after a process's half of each."""
    module = FicalConfig().build(SHAPES)
    part = slice(None) if rank is None else slice(rank, None, 2)
    losses = [module(step_of(logits[part], targets[part])) for logits, targets in batches()]
    return {"losses": torch.stack(losses), **module.state_dict()}


def test_two_processes_count_as_one_with_the_doubled_batch() -> None:
    alone = _follow(None)
    for found in on_two_processes(_follow):
        assert found.keys() == alone.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in alone.items())


def sizes_of(num_classes: int) -> Shapes:
    sizes = Widths(8, 8, 2, 2)
    return Shapes("single-label", num_classes, torch.empty(0, dtype=torch.int64), sizes, None)


def test_too_many_classes_are_refused() -> None:
    assert FicalConfig().misfit(sizes_of(4096)) is None
    assert "4,096 is the most; take ical" in (FicalConfig().misfit(sizes_of(4097)) or "")
