import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from two_processes import on_two_processes

from kdcam.losses.generalized_cross_entropy import generalized_cross_entropy
from kdcam.losses.loss import Shapes, Step
from kdcam.losses.truncated_generalized_cross_entropy import (
    TruncatedGeneralizedCrossEntropyConfig,
    truncated_generalized_cross_entropy,
)
from kdcam.models.classifier import Outputs, Widths

KEYS = {"exponent": 0.7, "threshold": 0.5}
CONFIG = TruncatedGeneralizedCrossEntropyConfig(truncate_from=0.5, refresh_every=0.25)
IMAGES = 8


def build(images: int = IMAGES, config: TruncatedGeneralizedCrossEntropyConfig = CONFIG) -> nn.Module:
    return config.build(Shapes("single-label", 2, torch.zeros(images), Widths(2, None, None, None), None))


def step_of(
    logits: Tensor, progress: float, *, targets: Tensor | None = None, indices: Tensor | None = None
) -> Step:
    every = torch.arange(len(logits))
    labels = torch.zeros_like(every) if targets is None else targets
    student = Outputs(logits, logits, None, None, None)
    return Step(student, None, labels, every if indices is None else indices, progress)


def logits_of(*likelihoods: float) -> Tensor:
    """Return logits of two classes under which class 0 has these likelihoods."""
    likely = torch.tensor(likelihoods, dtype=torch.float64)
    return torch.stack([likely.log(), (1 - likely).log()], dim=1)


def lq(likelihood: float) -> float:
    return (1 - likelihood**0.7) / 0.7


def test_hand_worked_value_and_gradient() -> None:
    logits, kept = logits_of(0.8, 0.3, 0.6).requires_grad_(), torch.tensor([True, False, True])
    loss = truncated_generalized_cross_entropy(logits, torch.zeros(3, dtype=torch.int64), kept, **KEYS)
    assert loss.item() == pytest.approx((lq(0.8) + lq(0.5) + lq(0.6)) / 3)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[1].tolist() == [0.0, 0.0]
    # dLq/dz_y = -p^q (1 - p)
    assert logits.grad[0, 0].item() == pytest.approx(-(0.8**0.7) * 0.2 / 3)


def test_the_threshold_is_the_label_of_an_image_left_out() -> None:
    logits, nobody = logits_of(0.9, 0.1), torch.zeros(2, dtype=torch.bool)
    loss = truncated_generalized_cross_entropy(
        logits, torch.tensor([0, 1]), nobody, exponent=0.3, threshold=0.2
    )
    expected = generalized_cross_entropy(logits_of(0.2), torch.tensor([0]), exponent=0.3)
    assert loss.item() == pytest.approx(expected.item())


def test_before_truncation_it_is_generalized_cross_entropy_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    module = build()
    for progress in (0.0, 0.25, 0.49):
        ours, theirs = (torch.randn(IMAGES, 5).requires_grad_() for _ in range(2))
        theirs.data.copy_(ours.data)
        targets = torch.randint(5, (IMAGES,))
        loss = module(step_of(ours, progress, targets=targets))
        expected = generalized_cross_entropy(theirs, targets, exponent=0.7)
        loss.backward()
        expected.backward()
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_hand_worked_run() -> None:
    module = build(4)
    # Image 3 is not seen before truncation.
    module(step_of(logits_of(0.2, 0.9, 0.3), 0.0))
    module(step_of(logits_of(0.6), 0.25))  # image 0 is believed when last seen
    # At 0.5 image 2 is left out, though it would be believed now.
    found = module(step_of(logits_of(0.4, 0.9, 0.7, 0.1), 0.5)).item()
    assert found == pytest.approx((lq(0.4) + lq(0.9) + lq(0.5) + lq(0.1)) / 4)
    # Nothing changes up to the next refresh at 0.75 ...
    assert module(step_of(logits_of(0.4, 0.9, 0.7, 0.1), 0.74)).item() == pytest.approx(found)
    # ... which leaves out images 0 and 3, and takes 2 back.
    found = module(step_of(logits_of(0.4, 0.9, 0.7, 0.1), 0.76)).item()
    assert found == pytest.approx((lq(0.5) + lq(0.9) + lq(0.7) + lq(0.5)) / 4)


def test_each_refresh_is_done_once() -> None:
    module = build(1)
    module(step_of(logits_of(0.2), 0.4))
    module(step_of(logits_of(0.9), 0.6))  # left out: 0.2 when last seen
    assert module(step_of(logits_of(0.9), 0.7)).item() == pytest.approx(lq(0.5))
    assert module(step_of(logits_of(0.9), 0.75)).item() == pytest.approx(lq(0.9))


def test_refreshes_fall_every_ten_of_120_epochs_from_the_40th_on() -> None:
    module = build(1, TruncatedGeneralizedCrossEntropyConfig())
    done = []
    for epoch in range(120):
        before = module.refreshes.item()
        module(step_of(logits_of(0.9), epoch / 120))
        if module.refreshes.item() > before:
            done.append(epoch)
    assert done == [40, 50, 60, 70, 80, 90, 100, 110]


def test_steps_between_which_several_fall_due_refresh_once() -> None:
    module = build(1)
    module(step_of(logits_of(0.2), 0.1))
    module(step_of(logits_of(0.9), 0.9))
    assert not module.kept.item()
    module(step_of(logits_of(0.9), 0.95))
    assert not module.kept.item()


def noisy_steps() -> list[Step]:
    torch.manual_seed(0)
    return [
        step_of(
            torch.randn(4, 2), at / 10, targets=torch.randint(2, (4,)), indices=torch.randperm(IMAGES)[:4]
        )
        for at in range(10)
    ]


@pytest.mark.parametrize("at", [3, 5, 6, 8])
def test_a_resumed_run_goes_on_as_it_was(at: int) -> None:
    whole, before, after = build(), build(), build()
    expected = [whole(step) for step in noisy_steps()]
    for step in noisy_steps()[:at]:
        before(step)
    after.load_state_dict(before.state_dict())
    assert [after(step).item() for step in noisy_steps()[at:]] == [value.item() for value in expected[at:]]
    assert not whole.kept.all()


def _run(rank: int) -> dict[str, Tensor]:
    module = build()
    halves = [
        step_of(s.student.logits[rank::2], s.progress, targets=s.targets[rank::2], indices=s.indices[rank::2])
        for s in noisy_steps()
    ]
    return {"losses": torch.stack([module(half) for half in halves]), **module.state_dict()}


def test_two_processes_do_as_one_with_the_doubled_batch() -> None:
    alone = build()
    losses = torch.stack([alone(step) for step in noisy_steps()])
    one, other = on_two_processes(_run)
    torch.testing.assert_close((one["losses"] + other["losses"]) / 2, losses)
    for found in (one, other):
        for name, tensor in alone.state_dict().items():
            torch.testing.assert_close(found[name], tensor)


@pytest.mark.parametrize("logit", [-1000.0, 1000.0])
@pytest.mark.parametrize("kept", [False, True])
def test_saturated_logits_give_finite_gradients(logit: float, kept: bool) -> None:
    logits = torch.tensor([[logit, 0.0]], requires_grad=True)
    loss = truncated_generalized_cross_entropy(logits, torch.tensor([0]), torch.tensor([kept]), **KEYS)
    loss.backward()
    assert loss.item() == pytest.approx((0 if logit > 0 else 1 / 0.7) if kept else lq(0.5))
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_bfloat16_is_worked_out_and_remembered_in_float32() -> None:
    module, logits = build(3), logits_of(0.8, 0.3, 0.6).bfloat16()
    loss = module(step_of(logits, 0.1))
    assert loss.dtype == module.likelihoods.values.dtype == torch.float32
    torch.testing.assert_close(module.likelihoods.values, logits.float().softmax(1)[:, 0])


def test_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    targets, kept = torch.tensor([0, 1, 4, 2]), torch.tensor([True, False, True, True])
    assert torch.autograd.gradcheck(
        lambda x: truncated_generalized_cross_entropy(x, targets, kept, **KEYS), logits
    )


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"exponent": 0.0}, "exponent"),
        ({"threshold": 1.0}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"truncate_from": 1.0}, "truncate_from"),
        ({"refresh_every": 0.0}, "refresh_every"),
        ({"start": 0.5}, r"start = 0.5 with truncate_from = 0.333333"),
    ],
)
def test_settings_that_cannot_work_are_refused(keys: dict[str, float], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        TruncatedGeneralizedCrossEntropyConfig.model_validate(keys)


def test_warns_when_all_images_are_left_out() -> None:
    config = TruncatedGeneralizedCrossEntropyConfig()
    module = build(1, config)
    shapes = Shapes("single-label", 2, torch.zeros(1), Widths(2, None, None, None), None)
    module(step_of(logits_of(0.2), 0.1))
    mean = module(step_of(logits_of(0.2), 0.5)).item()
    warning = config.diagnose({config.name: mean}, shapes)
    assert warning is not None
    assert "raise truncate_from (now 0.333) or lower threshold (now 0.5)" in warning
    assert config.diagnose({config.name: mean + 0.01}, shapes) is None
    assert config.diagnose({}, shapes) is None
