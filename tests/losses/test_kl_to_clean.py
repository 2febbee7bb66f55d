import pytest
import torch

from kdcam.losses.kl_to_clean import KlToClean, kl_to_clean_loss
from kdcam.losses.loss import Step
from kdcam.models.classifier import Outputs


def logits_of(*rows: list[float]) -> torch.Tensor:
    """Return logits whose softmax are these rows."""
    return torch.tensor(rows, dtype=torch.float64).log()


def test_hand_worked_value() -> None:
    clean = logits_of([0.5, 0.5], [0.25, 0.75])
    adversarial = logits_of([0.25, 0.75], [0.25, 0.75])
    # 0.5 ln(0.5 / 0.25) + 0.5 ln(0.5 / 0.75) = 0.143841 of the first image, 0 of the second
    assert kl_to_clean_loss(adversarial, clean).item() == pytest.approx(0.1438410362 / 2, abs=1e-9)


def test_equals_torchs_divergence_from_the_clean_prediction() -> None:
    adversarial, clean = torch.randn(2, 5, 4, dtype=torch.float64).unbind()
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=clean), torch.distributions.Categorical(logits=adversarial)
    ).mean()
    torch.testing.assert_close(kl_to_clean_loss(adversarial, clean), expected)


def test_zero_where_both_say_the_same_up_to_a_shift_of_the_logits() -> None:
    logits = torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(
        kl_to_clean_loss(logits + 3, logits), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_gradient_passes_through_both() -> None:
    torch.manual_seed(0)
    both = [torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(kl_to_clean_loss, both)
    kl_to_clean_loss(*both).backward()
    assert all(logits.grad is not None and logits.grad.abs().sum() > 0 for logits in both)


def outputs_of(logits: list[list[float]]) -> Outputs:
    return Outputs(torch.tensor(logits), torch.zeros(2, 2), None, None, None)


STEP = Step(outputs_of([[2.0, 0.0], [0.0, 1.0]]), None, torch.tensor([0, 1]), torch.arange(2), 0.5)


def test_module_compares_what_was_trained_on_with_the_clean_images() -> None:
    clean = outputs_of([[0.0, 1.0], [3.0, 0.0]])
    expected = kl_to_clean_loss(STEP.student.logits, clean.logits)
    torch.testing.assert_close(KlToClean()(STEP._replace(clean=clean)), expected)


def test_without_clean_outputs_it_says_so() -> None:
    with pytest.raises(ValueError, match=r"outputs of the clean images, and the step has none"):
        KlToClean()(STEP)
