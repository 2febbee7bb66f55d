import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from kdcam.losses.loss import Shapes, Step
from kdcam.losses.lsoftmax import LSoftmaxConfig, lsoftmax
from kdcam.models.classifier import Outputs, Widths

SHAPES = Shapes("single-label", 2, torch.arange(2), Widths(2, 2, 1, 1), None)
LABEL = torch.tensor([0])


def outputs(bias: torch.Tensor | None = None) -> Outputs:
    """Return a batch of one: length 3, 60 degrees to the label's weight of length 2, 30 to the other of length 1."""
    embedding = 3 * torch.tensor([[0.5, math.sqrt(0.75)]])
    weight = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    return Outputs(F.linear(embedding, weight, bias), embedding, None, weight, bias)


OTHER = 3 * math.sqrt(0.75)


def test_hand_worked_value_with_biases_outside_the_angle() -> None:
    # Margin 2: cos 120 degrees = -0.5, times 6; then the bias.
    found = lsoftmax(outputs(torch.tensor([0.3, -0.2])), LABEL, margin=2, annealing=0.0)
    assert found.item() == pytest.approx(math.log1p(math.exp((OTHER - 0.2) - (-3 + 0.3))))


def test_annealing_hand_worked() -> None:
    # (1 * 0.5 - 0.5) / 2 = 0.
    found = lsoftmax(outputs(), LABEL, margin=2, annealing=1.0)
    assert found.item() == pytest.approx(math.log1p(math.exp(OTHER)))


def test_a_large_lambda_is_cross_entropy() -> None:
    found = lsoftmax(outputs(), LABEL, margin=4, annealing=1e8)
    torch.testing.assert_close(found, F.cross_entropy(outputs().logits, LABEL))


def test_module_anneals_as_released() -> None:
    module = LSoftmaxConfig().build(SHAPES)
    step = Step(outputs(), None, LABEL, LABEL, 0.5)
    for iteration in (1, 2):
        annealing = 1000 * (1 + 2.5e-5 * iteration) ** -35
        expected = lsoftmax(outputs(), LABEL, margin=4, annealing=annealing)
        torch.testing.assert_close(module(step), expected)
    module.get_buffer("annealing.iterations").fill_(29999)
    torch.testing.assert_close(module(step), lsoftmax(outputs(), LABEL, margin=4, annealing=3.1165e-6))


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"margin": 1}, "greater than or equal to 2"),
        ({"margin": 2.5}, "valid integer"),
        ({"anneal_gamma": -1.0}, "greater than or equal to 0"),
        ({"anneal_power": math.inf}, "finite"),
        ({"anneal_base": 1.0, "anneal_floor": 5.0}, "anneal_base = 1 lies below anneal_floor = 5"),
    ],
)
def test_settings_that_do_nothing_or_harm_are_refused(keys: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        LSoftmaxConfig.model_validate(keys)


def test_needs_a_class_weight_and_takes_labels() -> None:
    assert LSoftmaxConfig.needs == {"classifier_weight"}
    assert LSoftmaxConfig.takes == {"labels"}
