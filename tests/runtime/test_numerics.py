import pytest
import torch

from kdcam.errors import ModelError
from kdcam.runtime.numerics import (
    FiniteCheck,
    broken_rows,
    mean_squares,
    require_finite_outputs,
    share_of,
    wide,
)


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


def test_mean_squares_keep_small_differences_of_large_values() -> None:
    one, other = 1_000 + torch.rand(5, 8), 1_000 + torch.rand(3, 8)
    expected = (one[:, None] - other[None]).double().square().mean(2).float()
    torch.testing.assert_close(mean_squares(one, other), expected, rtol=1e-4, atol=1e-6)


def test_a_share_of_several_axes_is_exact() -> None:
    assert share_of(torch.tensor([[True, False, False], [True, True, False]])) == 0.5
    assert share_of(torch.arange(10_000_019) % 3 == 0) == 3_333_340 / 10_000_019


def test_rows_that_hold_anything_but_numbers_are_broken() -> None:
    outputs = torch.ones(5, 2, 3)
    outputs[1, 0, 2], outputs[3, 1, 0], outputs[4, 1, 1] = torch.nan, torch.inf, -torch.inf
    assert broken_rows(outputs).tolist() == [False, True, False, True, True]
    assert broken_rows(torch.full((2, 3), torch.finfo(torch.float32).max)).tolist() == [False, False]


def test_images_are_counted_over_batches_and_the_first_are_named() -> None:
    check = FiniteCheck("maps")
    assert check.take(torch.zeros(4, 3))
    check.require("nothing is wrong yet")
    assert not check.take(torch.full((7, 3), torch.nan))
    assert check.take(torch.zeros(2, 3))
    with pytest.raises(
        ModelError,
        match=r"^here: the maps of 7 of 13 images are not finite \(NaN or infinite\): 4, 5, 6, 7, 8 \.\.\., counted "
        r"from 0; .*lower learning rate$",
    ):
        check.require("here")
    with pytest.raises(ModelError, match=r": e\.png, f\.png, g\.png, h\.png, i\.png \.\.\.; drop them$"):
        check.require("here", lambda position: f"{'abcdefghijklm'[position]}.png", way_out="drop them")


def test_one_infinite_output_is_enough() -> None:
    outputs = torch.zeros(3, 10)
    require_finite_outputs(outputs, "here")
    outputs[2, 9] = -torch.inf
    with pytest.raises(
        ModelError, match=r"here: the logits of 1 of 3 images are not finite .*: 2, counted from 0"
    ):
        require_finite_outputs(outputs, "here")
