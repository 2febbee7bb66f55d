import pytest
import torch
import torch.nn.functional as F

from kdcam.losses.kd import kd_loss


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equals_the_closed_form(temperature: float) -> None:
    student, teacher = torch.randn(6, 10).double(), torch.randn(6, 10).double()
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    by_hand = (p * (p / q).log()).sum(1).mean() * temperature**2
    assert kd_loss(student, teacher, temperature=temperature).item() == pytest.approx(
        by_hand.item(), rel=1e-5
    )


def test_equals_torch_with_batchmean_not_mean() -> None:
    student, teacher = torch.randn(6, 10), torch.randn(6, 10)
    reference = F.kl_div((student / 4).log_softmax(1), (teacher / 4).softmax(1), reduction="batchmean") * 16
    torch.testing.assert_close(kd_loss(student, teacher, temperature=4.0), reference)


def test_is_zero_for_equal_logits_up_to_a_shift() -> None:
    logits = torch.randn(6, 10)
    assert abs(kd_loss(logits + 3, logits, temperature=4.0).item()) < 1e-6


def test_gradient_is_the_difference_of_probabilities() -> None:
    student = torch.randn(5, 7, requires_grad=True)
    teacher = torch.randn(5, 7)
    kd_loss(student, teacher, temperature=2.0).backward()
    # d/dz of T^2 KL at temperature T is T (q - p) / N
    expected = 2 * ((student.detach() / 2).softmax(1) - (teacher / 2).softmax(1)) / 5
    torch.testing.assert_close(student.grad, expected)


def test_bfloat16_logits_are_computed_in_float32() -> None:
    student, teacher = torch.randn(6, 10).bfloat16(), torch.randn(6, 10).bfloat16()
    loss = kd_loss(student, teacher, temperature=4.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, kd_loss(student.float(), teacher.float(), temperature=4.0))
