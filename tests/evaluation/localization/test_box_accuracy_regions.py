import numpy as np
import pytest
from scipy import ndimage

from kdcam.evaluation.localization.box_accuracy import LEVELS, hole_regions, regions_of


def labelled(mask, diagonal):
    """Return the boxes and sizes of a mask's regions, by another library's labelling."""
    labels, _ = ndimage.label(mask, np.ones((3, 3)) if diagonal else None)
    sizes = np.bincount(labels.ravel())[1:]
    return [
        (x.start, y.start, x.stop - 1, y.stop - 1, int(size))
        for (y, x), size in zip(ndimage.find_objects(labels), sizes, strict=True)
    ]


def at(found, which, level):
    chosen = (found.maps == which) & (found.levels == level)
    return [
        (*box, size) for box, size in zip(found.boxes[chosen].tolist(), found.pixels[chosen], strict=True)
    ]


def some_maps(kind):
    generator = np.random.default_rng(0)
    shape = (10, 9, 13)  # more maps than are worked on together
    if kind == "noise":
        return generator.integers(0, 256, shape, dtype=np.uint8)
    if kind == "few values":
        return generator.integers(0, 3, shape, dtype=np.uint8) * 127
    smooth = ndimage.gaussian_filter(generator.random(shape), (0, 2, 2))
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["noise", "few values", "smooth"])
@pytest.mark.parametrize("diagonal", [True, False])
def test_the_regions_of_every_level_are_those_of_scipys_labelling(kind: str, diagonal: bool) -> None:
    maps = some_maps(kind)
    found = regions_of(maps, diagonal=diagonal)
    for which, map_ in enumerate(maps):
        for level in range(LEVELS):
            assert sorted(at(found, which, level)) == sorted(labelled(map_ > level, diagonal))


def test_they_come_by_map_level_and_reading_order() -> None:
    found = regions_of(some_maps("noise"))
    keys = list(zip(found.maps, found.levels, found.boxes[:, 1], strict=True))
    assert keys == sorted(keys)


def test_holes_have_the_boxes_of_their_borders() -> None:
    map_ = np.zeros((1, 9, 9), np.uint8)
    map_[0, 1:8, 1:8] = 200
    map_[0, 3:5, 3:6] = 50
    found = hole_regions(map_)
    assert at(found, 0, 100) == [(2, 2, 6, 5, 6)]
    assert at(found, 0, 49) == []  # filled
    assert at(found, 0, 200) == []  # all is below


def test_what_only_touches_at_corners_does_not_leave_a_hole_open() -> None:
    map_ = np.zeros((1, 5, 5), np.uint8)
    map_[0, [1, 2, 2, 3], [2, 1, 3, 2]] = 255  # a diamond: its middle is closed by corners
    assert at(hole_regions(map_), 0, 0) == [(1, 1, 3, 3, 1)]
    assert len(at(regions_of(map_), 0, 0)) == 1
    assert len(at(regions_of(map_, diagonal=False), 0, 0)) == 4


@pytest.mark.parametrize("value", [0, 255])
def test_maps_of_one_value(value: int) -> None:
    found = regions_of(np.full((2, 3, 4), value, np.uint8))
    assert len(found.maps) == (2 * LEVELS if value else 0)
    assert (found.boxes == [0, 0, 3, 2]).all()


def test_no_map_at_all() -> None:
    assert regions_of(np.zeros((0, 4, 4), np.uint8)).boxes.shape == (0, 4)


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4\).*float64.*wanted \(N, H, W\) uint8"):
        regions_of(np.zeros((4, 4)))
