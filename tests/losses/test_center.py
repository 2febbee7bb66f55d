import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from two_processes import on_two_processes

from kdcam.losses.center import CenterConfig, center
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, Widths

SHAPES = Shapes("single-label", 3, torch.arange(3), Widths(2, 2, 1, 1), None)
SEEN = torch.ones(3, dtype=torch.bool)


def step_of(embedding: Tensor, targets: Tensor) -> Step:
    student = Outputs(embedding, embedding, None, None, None)
    return Step(student, None, targets, torch.arange(len(targets)), 0.5)


def test_hand_worked_value_and_gradient() -> None:
    embedding = torch.tensor([[1.0, 2.0], [3.0, 0.0]], requires_grad=True)
    centers = torch.tensor([[0.0, 0.0], [9.0, 9.0], [3.0, 4.0]])
    loss = center(embedding, centers, SEEN, torch.tensor([0, 2]))
    assert loss.item() == pytest.approx(((1 + 4) / 2 + 16 / 2) / 2)
    loss.backward()
    # (x - c) / 2 images
    torch.testing.assert_close(embedding.grad, torch.tensor([[0.5, 1.0], [0.0, -2.0]]))


def test_equals_a_loop_over_images() -> None:
    torch.manual_seed(0)
    embedding, centers = torch.randn(7, 4).double(), torch.randn(3, 4).double()
    targets = torch.tensor([0, 2, 1, 1, 0, 2, 2])
    each = [0.5 * torch.dist(x, centers[y]) ** 2 for x, y in zip(embedding, targets, strict=True)]
    torch.testing.assert_close(center(embedding, centers, SEEN, targets), torch.stack(each).mean())


def test_images_of_a_class_without_a_centre_are_not_counted() -> None:
    embedding, centers = torch.tensor([[1.0, 0.0], [5.0, 5.0]]), torch.zeros(3, 2)
    seen = torch.tensor([True, False, True])
    assert center(embedding, centers, seen, torch.tensor([0, 1])).item() == 0.5
    assert center(embedding, centers, ~seen, torch.tensor([0, 2])).item() == 0


def test_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    embedding = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    centers = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 2, 1, 0])
    assert torch.autograd.gradcheck(lambda x, c: center(x, c, SEEN, targets), (embedding, centers))


def test_sums_of_half_precision_are_wide() -> None:
    # Near 1000 bfloat16 counts in steps of 4; the 512 squares would be summed as coarsely.
    embedding = torch.full((1, 512), 3.0, dtype=torch.bfloat16)
    loss = center(embedding, torch.zeros(3, 512), SEEN, torch.tensor([0]))
    assert loss.dtype == torch.float32
    assert loss.item() == 512 * 9 / 2


def test_two_steps_with_the_centre_moved_between_them() -> None:
    module = CenterConfig(center_rate=0.5).build(SHAPES)
    targets = torch.tensor([0, 0])
    # The first images set the centre to (2, 0): each is 1 away.
    first = module(step_of(torch.tensor([[1.0, 0.0], [3.0, 0.0]]), targets))
    assert first.item() == pytest.approx(0.5)
    # Their mean is the centre, so it stands; (4, 0) and (2, 6) are 2 and 6 away.
    second = module(step_of(torch.tensor([[4.0, 0.0], [2.0, 6.0]]), targets))
    assert second.item() == pytest.approx((2 + 18) / 2)
    # sum of c - x = (-2, -6), / (1 + 2), half of it: the centre is now (2 + 1 / 3, 1).
    third = module(step_of(torch.tensor([[2.0, 1.0], [2.0, 1.0]]), targets))
    assert third.item() == pytest.approx((1 / 3) ** 2 / 2, rel=1e-5)


def test_the_gradient_is_of_the_embedding_alone() -> None:
    module = CenterConfig().build(SHAPES)
    embedding = torch.tensor([[1.0, 0.0], [3.0, 0.0]], requires_grad=True)
    module(step_of(embedding, torch.tensor([0, 0]))).backward()
    assert not list(module.parameters())
    torch.testing.assert_close(embedding.grad, torch.tensor([[-0.5, 0.0], [0.5, 0.0]]))


def steps() -> list[Step]:
    torch.manual_seed(0)
    return [step_of(torch.randn(8, 2), torch.randint(3, (8,))) for _ in range(3)]


def test_a_resumed_run_goes_on_as_it_was() -> None:
    whole, before, after = (CenterConfig().build(SHAPES) for _ in range(3))
    for step in steps()[:2]:
        whole(step)
        before(step)
    after.load_state_dict(before.state_dict())
    assert torch.equal(whole(steps()[2]), after(steps()[2]))


def _three_steps(rank: int) -> dict[str, Tensor]:
    module = CenterConfig().build(SHAPES)
    halves = [step_of(s.student.embedding[rank::2], s.targets[rank::2]) for s in steps()]
    return {"losses": torch.stack([module(half) for half in halves]), **module.state_dict()}


def test_two_processes_do_as_one_with_the_doubled_batch() -> None:
    alone = CenterConfig().build(SHAPES)
    losses = torch.stack([alone(step) for step in steps()])
    one, other = on_two_processes(_three_steps)
    torch.testing.assert_close((one["losses"] + other["losses"]) / 2, losses)
    for found in (one, other):
        for name, tensor in alone.state_dict().items():
            torch.testing.assert_close(found[name], tensor)


@pytest.mark.parametrize("rate", [0.0, 1.5])
def test_rates_outside_0_to_1_are_refused(rate: float) -> None:
    with pytest.raises(ValidationError, match="center_rate"):
        CenterConfig(center_rate=rate)
