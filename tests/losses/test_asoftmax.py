import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from two_processes import on_two_processes

from kdcam.losses.asoftmax import ASoftmaxConfig, asoftmax
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, Widths

SHAPES = Shapes("single-label", 2, torch.arange(2), Widths(2, 2, 1, 1), None)
LABEL = torch.tensor([0])
OTHER = 3 * math.sqrt(0.75)


def outputs() -> Outputs:
    """Return a batch of one: length 3, 60 degrees to the label's unit weight, 30 to the other."""
    embedding, weight = 3 * torch.tensor([[0.5, math.sqrt(0.75)]]), torch.eye(2)
    return Outputs(embedding @ weight.T, embedding, None, weight, None)


def test_hand_worked_value() -> None:
    # Margin 4: 240 degrees lie in k = 1: -cos 240 - 2 = -1.5, times 3.
    found = asoftmax(outputs(), LABEL, margin=4, annealing=0.0)
    assert found.item() == pytest.approx(math.log1p(math.exp(OTHER + 4.5)))


def test_annealing_hand_worked() -> None:
    # (5 * 0.5 - 1.5) / 6 = 1 / 6, times 3.
    found = asoftmax(outputs(), LABEL, margin=4, annealing=5.0)
    assert found.item() == pytest.approx(math.log1p(math.exp(OTHER - 0.5)))


def test_a_large_lambda_is_cross_entropy() -> None:
    found = asoftmax(outputs(), LABEL, margin=4, annealing=1e8)
    torch.testing.assert_close(found, F.cross_entropy(outputs().logits, LABEL))


def test_module_anneals_as_released() -> None:
    module = ASoftmaxConfig().build(SHAPES)
    step = Step(outputs(), None, LABEL, LABEL, 0.5)
    for annealing in (1000 / 1.12, 1000 / 1.24):
        expected = asoftmax(outputs(), LABEL, margin=4, annealing=annealing)
        torch.testing.assert_close(module(step), expected)
    module.get_buffer("annealing.iterations").fill_(1658)
    torch.testing.assert_close(module(step), asoftmax(outputs(), LABEL, margin=4, annealing=5.0))


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"margin": 1}, "greater than or equal to 2"),
        ({"anneal_floor": -5.0}, "greater than or equal to 0"),
        ({"anneal_base": 0.0}, "anneal_base = 0 lies below anneal_floor = 5"),
    ],
)
def test_settings_that_do_nothing_or_harm_are_refused(keys: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        ASoftmaxConfig.model_validate(keys)
    assert ASoftmaxConfig(anneal_base=0.0, anneal_floor=0.0).anneal_floor == 0


def test_needs_a_unit_weight_head_and_takes_labels() -> None:
    assert ASoftmaxConfig.needs == {"unit_weight_head"}
    assert ASoftmaxConfig.takes == {"labels"}


def steps() -> list[Step]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(3):
        embedding = torch.randn(8, 2, generator=generator)
        student = Outputs(embedding, embedding, None, torch.eye(2), None)
        targets = torch.randint(2, (8,), generator=generator)
        found.append(Step(student, None, targets, torch.arange(8), 0.5))
    return found


def half(step: Step, rank: int) -> Step:
    student = step.student._replace(
        logits=step.student.logits[rank::2], embedding=step.student.embedding[rank::2]
    )
    return step._replace(student=student, targets=step.targets[rank::2])


def three_steps(rank: int) -> dict[str, torch.Tensor]:
    module = ASoftmaxConfig().build(SHAPES)
    losses = torch.stack([module(half(step, rank)) for step in steps()])
    return {"losses": losses, **module.state_dict()}


def test_two_processes_anneal_as_one_with_the_doubled_batch() -> None:
    alone = ASoftmaxConfig().build(SHAPES)
    losses = torch.stack([alone(step) for step in steps()])
    one, other = on_two_processes(three_steps)
    torch.testing.assert_close((one["losses"] + other["losses"]) / 2, losses)
    for found in (one, other):
        assert {name: found[name] for name in alone.state_dict()} == alone.state_dict()
