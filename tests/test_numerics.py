import pytest
import torch

from kdcam.numerics import wide


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
