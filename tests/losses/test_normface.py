import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from kdcam.losses.normface import NormFaceConfig, normface
from kdcam.models.classifier import Outputs


def test_hand_worked_value() -> None:
    # 60 degrees to the label's weight, 30 to the other; scale 2.
    embedding, weight = torch.tensor([[0.5, math.sqrt(0.75)]]), 2 * torch.eye(2)
    outputs = Outputs(embedding @ weight.T, embedding, None, weight, None)
    expected = math.log1p(math.exp(math.sqrt(3) - 1))
    assert normface(outputs, torch.tensor([0])).item() == pytest.approx(expected)


@pytest.mark.parametrize(("classes", "scale"), [(10, 1.0), (100, 1.0), (100, 16.0)])
def test_loss_ends_at_the_bound_of_the_card(classes: int, scale: float) -> None:
    # Embeddings on their weights, weights as far apart as can be: a simplex about its middle.
    corners = F.normalize(torch.eye(classes, dtype=torch.float64) - 1 / classes)
    outputs = Outputs(corners @ (scale * corners).T, corners, None, scale * corners, None)
    bound = math.log1p((classes - 1) * math.exp(-scale * classes / (classes - 1)))
    assert normface(outputs, torch.arange(classes)).item() == pytest.approx(bound, rel=1e-9)


def test_needs_a_cosine_head_and_takes_labels() -> None:
    assert NormFaceConfig.needs == {"cosine_head"}
    assert NormFaceConfig.takes == {"labels"}
    with pytest.raises(ValidationError, match="Extra inputs"):
        NormFaceConfig.model_validate({"margin": 0.1})
