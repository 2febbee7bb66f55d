"""Tests of kdcam.cam.localization."""

import pytest
import torch

from kdcam.cam.localization import pointing_game


def peak(size: int, row: int, column: int) -> torch.Tensor:
    map_ = torch.zeros(size, size)
    map_[row, column] = 1
    return map_


def test_a_peak_in_and_outside_the_box() -> None:
    maps = torch.stack([peak(8, 2, 5), peak(8, 5, 2)])
    boxes = torch.tensor([[5.0, 2.0, 6.0, 3.0], [5.0, 2.0, 6.0, 3.0]])
    assert pointing_game(maps, boxes, 8).tolist() == [True, False]


def test_the_end_of_a_box_is_exclusive() -> None:
    maps = peak(8, 3, 3).expand(4, 8, 8)
    boxes = torch.tensor([[3, 3, 4, 4], [0, 0, 3, 8], [4, 0, 8, 8], [0, 0, 8, 3]])
    assert pointing_game(maps, boxes, 8).tolist() == [True, False, False, False]


def test_fractions_of_a_pixel_count_by_its_centre() -> None:
    maps = peak(8, 3, 3).expand(2, 8, 8)
    boxes = torch.tensor([[3.4, 3.4, 4.0, 4.0], [3.6, 3.0, 4.0, 4.0]])
    assert pointing_game(maps, boxes, 8).tolist() == [True, False]


def test_a_small_map_is_brought_to_the_images_size() -> None:
    # The upper right cell's centre lies at x = 24: from there to the border the enlarged map is equally high.
    maps = peak(2, 0, 1)[None]
    assert pointing_game(maps, torch.tensor([[24, 0, 25, 1]]), 32).tolist() == [True]
    assert pointing_game(maps, torch.tensor([[0, 0, 16, 32]]), 32).tolist() == [False]


def test_scale_and_offset_do_not_matter() -> None:
    maps = torch.rand(20, 6, 6, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[8, 8, 40, 40]]).expand(20, 4)
    hits = pointing_game(maps, boxes, 48)
    assert 0 < hits.sum() < 20
    assert torch.equal(pointing_game(100 * maps - 7, boxes, 48), hits)


def test_constant_and_broken_maps_point_nowhere() -> None:
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 3.0), torch.full((4, 4), torch.nan)])
    assert pointing_game(maps, torch.tensor([[0, 0, 8, 8]]).expand(3, 4), 8).tolist() == [False] * 3


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4, 4\).*\(3, 4\)"):
        pointing_game(torch.rand(2, 4, 4), torch.zeros(3, 4), 8)
