import pytest
import torch

from kdcam.numerics import share_of, wide


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_float32_at_least(given: torch.dtype, expected: torch.dtype) -> None:
    assert wide(torch.ones(2, dtype=given)).dtype == expected


def test_a_share_of_several_axes_is_exact() -> None:
    assert share_of(torch.tensor([[True, False, False], [True, True, False]])) == 0.5
    assert share_of(torch.arange(10_000_019) % 3 == 0) == 3_333_340 / 10_000_019
