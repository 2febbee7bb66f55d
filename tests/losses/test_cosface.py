import math

import pytest
import torch
from pydantic import ValidationError

from kdcam.losses.cosface import CosFaceConfig, cosface, cosface_margin
from kdcam.losses.normface import normface
from kdcam.models.classifier import Outputs


def outputs(angle: float) -> Outputs:
    """Return a batch of one at an angle to the weight of label 0; scale 2."""
    embedding, weight = torch.tensor([[math.cos(angle), math.sin(angle)]]), 2 * torch.eye(2)
    return Outputs(embedding @ weight.T, embedding, None, weight, None)


def test_hand_worked_value() -> None:
    # 2 (0.5 - 0.25) for the label, 2 sin 60 degrees for the other.
    found = cosface(outputs(math.pi / 3), torch.tensor([0]), margin=0.25)
    assert found.item() == pytest.approx(math.log1p(math.exp(math.sqrt(3) - 0.5)))


def test_no_margin_is_normface() -> None:
    batch, targets = outputs(1.0), torch.tensor([0])
    assert torch.equal(cosface(batch, targets, margin=0.0), normface(batch, targets))


def test_margin() -> None:
    assert cosface_margin(torch.tensor([1.0, 0.0, -1.0]), 0.5).tolist() == [0.5, -0.5, -1.5]


@pytest.mark.parametrize("margin", [-0.1, 2.0, math.nan])
def test_margins_that_no_cosines_can_keep_are_refused(margin: float) -> None:
    with pytest.raises(ValidationError, match="margin"):
        CosFaceConfig(margin=margin)


def test_needs_a_cosine_head_and_takes_labels() -> None:
    assert CosFaceConfig.needs == {"cosine_head"}
    assert CosFaceConfig.takes == {"labels"}
