import math

import pytest
import torch
from pydantic import ValidationError

from kdcam.losses.arcface import ArcFaceConfig, arcface, arcface_margin
from kdcam.losses.normface import normface
from kdcam.models.classifier import Outputs


def outputs(angle: float) -> Outputs:
    """Return a batch of one at an angle to the weight of label 0; scale 2."""
    embedding, weight = torch.tensor([[math.cos(angle), math.sin(angle)]]), 2 * torch.eye(2)
    return Outputs(embedding @ weight.T, embedding, None, weight, None)


def test_hand_worked_value() -> None:
    # 60 degrees and a margin of 30: cos 90 = 0 for the label, 2 sin 60 for the other.
    found = arcface(outputs(math.pi / 3), torch.tensor([0]), margin=math.pi / 6)
    assert found.item() == pytest.approx(math.log1p(math.exp(math.sqrt(3))))


def test_hand_worked_value_past_pi_minus_the_margin() -> None:
    # 180 degrees: -1 - margin sin(margin) = -1 - pi / 12 for the label, 0 for the other.
    found = arcface(outputs(math.pi), torch.tensor([0]), margin=math.pi / 6)
    assert found.item() == pytest.approx(math.log1p(math.exp(2 * (1 + math.pi / 12))))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_margin_is_the_shifted_angle_and_then_goes_on_falling(dtype: torch.dtype) -> None:
    angles = torch.linspace(0, math.pi, 1001, dtype=torch.float64)
    found = arcface_margin(angles.cos().to(dtype), 0.5).double()
    expected = torch.where(angles <= math.pi - 0.5, (angles + 0.5).cos(), angles.cos() - 0.5 * math.sin(0.5))
    # Cosines near 1 leave angles of 1e-8 (float32: 3e-4) unresolved.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-4)


def test_no_margin_is_normface() -> None:
    batch, targets = outputs(1.0), torch.tensor([0])
    torch.testing.assert_close(arcface(batch, targets, margin=0.0), normface(batch, targets))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_at_0_and_pi_are_exact_and_slopes_finite(dtype: torch.dtype) -> None:
    ulp = torch.finfo(dtype).eps
    cosines = torch.tensor([1.0, -1.0, 1 + ulp, -1 - ulp, 1 - ulp, -1 + ulp], dtype=dtype, requires_grad=True)
    values = arcface_margin(cosines, 0.5)
    values.sum().backward()
    assert values[:2].tolist() == pytest.approx([math.cos(0.5), -1 - 0.5 * math.sin(0.5)], rel=1e-6)
    assert cosines.grad is not None
    assert torch.isfinite(cosines.grad).all()


@pytest.mark.parametrize("margin", [-0.1, 28.6, 1.6, math.nan])
def test_margins_in_degrees_and_above_a_right_angle_are_refused(margin: float) -> None:
    with pytest.raises(ValidationError, match="margin"):
        ArcFaceConfig(margin=margin)


def test_needs_a_cosine_head_and_takes_labels() -> None:
    assert ArcFaceConfig.needs == {"cosine_head"}
    assert ArcFaceConfig.takes == {"labels"}
