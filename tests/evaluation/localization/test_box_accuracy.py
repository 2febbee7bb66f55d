"""Tests of kdcam.evaluation.localization.box_accuracy, against a slow one written apart and against OpenCV."""

import numpy as np
import pytest
import torch

from kdcam.evaluation.localization.box_accuracy import (
    BoxTally,
    LevelOverlaps,
    intersection_over_union,
    largest_box,
    level_overlaps,
    truncated_pixels,
    whole_pixels,
)
from kdcam.evaluation.localization.localization_measurement import byte_maps

NAN = float("nan")
NONE = [NAN] * 4
OBJECTS = np.array(
    [
        [[3, 2, 13, 11], NONE],
        [[1, 2, 13, 14], [5, 6, 9, 10]],
        [[0, 0, 7, 7], [10, 9, 15, 13]],
        [[0, 0, 15, 15], NONE],
        [[0, 0, 1, 1], NONE],
        [[0, 0, 0, 0], [4, 4, 9, 9]],
        [[2, 2, 12, 12], NONE],
    ]
)


def flooded(mask):
    """Return the pixels of each region, walked from pixel to pixel over sides and corners."""
    left = {(y, x) for y, x in np.argwhere(mask).tolist()}
    regions = []
    while left:
        region, edge = [], [min(left)]
        left.discard(edge[0])
        while edge:
            y, x = edge.pop()
            region.append((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            edge += near
        regions.append(region)
    return regions


def overlap(one, other):
    wide = min(one[2], other[2]) - max(one[0], other[0]) + 1
    tall = min(one[3], other[3]) - max(one[1], other[1]) + 1
    common = max(wide, 0) * max(tall, 0)
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return common / (sum(areas) - common)


def brute_force(maps, objects):
    """Return MaxBoxAccV2 and V1 by a loop over a thousand thresholds, maps and regions."""
    thresholds = np.arange(0, 1, 0.001)
    hits, largest_hits = np.zeros((3, len(thresholds))), np.zeros(len(thresholds))
    for map_, boxes in zip(maps, objects, strict=True):
        known = [box.tolist() for box in boxes if not np.isnan(box).any()]
        done = {}
        for number, threshold in enumerate(thresholds):
            level = int(threshold * map_.max())
            if level not in done:
                regions = flooded(map_ > level)
                found = [
                    (min(x for _, x in r), min(y for y, _ in r), max(x for _, x in r), max(y for y, _ in r))
                    for r in regions
                ]
                shares = [max(overlap(box, one) for one in known) for box in found] or [0]
                sizes = [len(region) for region in regions] or [0]
                done[level] = max(shares), shares[sizes.index(max(sizes))]
            best, largest = done[level]
            hits[:, number] += [best >= 0.3, best >= 0.5, best >= 0.7]
            largest_hits[number] += largest >= 0.5
    return (hits / len(maps)).max(1).mean(), (largest_hits / len(maps)).max()


def measured(maps, objects, **options):
    tally = BoxTally()
    tally.add(level_overlaps(maps, objects, **options))
    return tally.accuracies()


def test_equal_to_brute_force_on_synthetic_maps(shapes) -> None:
    maps = byte_maps(torch.stack(list(shapes.values())), 16).numpy()
    found = measured(maps, OBJECTS)
    v2, v1 = brute_force(maps, OBJECTS)
    assert (found.v2, found.v1) == (pytest.approx(v2), pytest.approx(v1))
    assert 0 < found.v1 < 1
    assert 0 < found.v2 < 1


@pytest.mark.parametrize("which", range(7))
def test_each_map_alone_is_equal_to_brute_force(shapes, which: int) -> None:
    maps = byte_maps(list(shapes.values())[which][None], 16).numpy()
    found = measured(maps, OBJECTS[which : which + 1])
    assert (found.v2, found.v1) == pytest.approx(brute_force(maps, OBJECTS[which : which + 1]))


@pytest.mark.parametrize("contours", ["regions", "wsol"])
def test_flat_maps_miss_also_an_object_at_the_upper_left(shapes, contours) -> None:
    maps = byte_maps(torch.stack([shapes["constant"], shapes["nan"]]), 16).numpy()
    found = level_overlaps(
        maps, np.array([[[0.0, 0.0, 0.0, 0.0]], [[0.0, 0.0, 1.0, 0.0]]]), contours=contours
    )
    assert (found.best == 0).all()
    assert (found.largest == 0).all()


def test_a_ring_has_one_box_and_with_its_hole_two(shapes) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with grad-cam")
    maps = byte_maps(shapes["ring"][None], 16).numpy()
    for contours, mode, expected in (("regions", cv2.RETR_EXTERNAL, 1), ("wsol", cv2.RETR_TREE, 2)):
        mask = (maps[0] > 100).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, mode, cv2.CHAIN_APPROX_SIMPLE)
        assert len(outlines) == expected
        for outline in outlines:
            x, y, width, height = cv2.boundingRect(outline)
            end = 1 if contours == "wsol" else 0
            box = np.array([[[x, y, x + width - 1 + end, y + height - 1 + end]]], float)
            assert level_overlaps(maps, box, contours=contours).best[0, 100] == 1
    hole = np.array([[[4.0, 5.0, 11.0, 12.0]]])  # its border from 4 to 10 and 5 to 11
    assert level_overlaps(maps, hole, contours="wsol").best[0, 0] == 1
    assert level_overlaps(maps, hole).best[0, 0] < 0.4


def test_wsol_contours_are_those_of_opencvs_tree_mode(shapes) -> None:
    """The best box at each level by the rule of clovaai/wsolevaluation: OpenCV's contours, ends one pixel further."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with grad-cam")
    maps = byte_maps(torch.stack(list(shapes.values())), 16).numpy()
    found = level_overlaps(maps, OBJECTS, contours="wsol")
    for map_, boxes, shares in zip(maps, OBJECTS, found.best, strict=True):
        known = [box for box in boxes if not np.isnan(box).any()]
        for level in range(255):
            _, mask = cv2.threshold(map_, level, 255, cv2.THRESH_BINARY)
            outlines, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
            around = [cv2.boundingRect(outline) for outline in outlines]
            ends = [(x, y, min(x + w, 15), min(y + h, 15)) for x, y, w, h in around]
            best = max((overlap(box, one) for box in ends for one in known), default=0)  # flat maps miss
            assert shares[level] == pytest.approx(best)


def test_the_largest_region_under_wsol_is_that_of_most_pixels_and_ends_one_further(shapes) -> None:
    from scipy import ndimage

    names = ("disc", "ring", "two blobs", "corners touch", "noise")
    maps = byte_maps(torch.stack([shapes[name] for name in names]), 16).numpy()
    objects = np.array([[[3.0, 2.0, 13.0, 11.0]]] * len(maps))
    found = level_overlaps(maps, objects, contours="wsol")
    for map_, shares in zip(maps, found.largest, strict=True):
        for level in range(255):
            labels, count = ndimage.label(map_ > level, np.ones((3, 3)))
            sizes = [(labels == number).sum() for number in range(1, count + 1)]
            rows, columns = np.nonzero(labels == 1 + int(np.argmax(sizes)))
            box = (columns.min(), rows.min(), min(columns.max() + 1, 15), min(rows.max() + 1, 15))
            assert shares[level] == pytest.approx(overlap(box, objects[0, 0]))


def test_v1_under_wsol_is_not_opencvs_where_a_ring_has_fewer_pixels_than_a_disc() -> None:
    """What is said of it: OpenCV takes the largest outline, and a ring's holds its hole."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with grad-cam")
    map_ = np.zeros((16, 16), np.uint8)
    map_[0:7, 0:7] = 255
    map_[1:6, 1:6] = 0  # 24 pixels round 25
    map_[9:15, 9:14] = 255  # 30 pixels
    outlines, _ = cv2.findContours(map_, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    assert cv2.boundingRect(max(outlines, key=cv2.contourArea)) == (0, 0, 7, 7)
    box = np.array([[[9.0, 9.0, 14.0, 15.0]]])
    assert level_overlaps(map_[None], box, contours="wsol").largest[0, 100] == 1


def test_the_best_of_all_boxes_and_that_of_the_largest_region(shapes) -> None:
    maps = byte_maps(shapes["two blobs"][None], 16).numpy()
    small = np.array([[[10.0, 9.0, 14.0, 13.0]]])
    found = level_overlaps(maps, small)
    assert found.best.max() == 1
    assert found.largest.max() < 0.2
    assert largest_box(maps[0], 0) == (0, 0, 6, 6)
    assert largest_box(maps[0], 254) == (3, 3, 3, 3)
    assert largest_box(maps[0] * 0, 0) == (0, 0, 0, 0)


def test_thresholds_of_other_images_give_at_most_the_best() -> None:
    generator = np.random.default_rng(0)
    tallies = [BoxTally(), BoxTally()]
    for tally in tallies:
        shares = generator.random((2, 20, 255))
        tally.add(LevelOverlaps(*shares))
        tally.add(LevelOverlaps(*shares[:, :5]))
    first, second = tallies
    own, given = first.accuracies(), first.accuracies(second.best_levels())
    assert first.maps == 25
    assert given.v2 < own.v2
    assert [one.threshold for one in given.best_box] == [
        one.threshold for one in second.accuracies().best_box
    ]
    assert own.v2 == pytest.approx(sum(one.accuracy for one in own.best_box) / 3)


def test_intersection_over_union_counts_last_pixels() -> None:
    one = np.array([2.0, 3.0, 5.0, 6.0])
    others = np.array([[2.0, 3.0, 5.0, 6.0], [6.0, 3.0, 9.0, 6.0], [4.0, 5.0, 7.0, 8.0], NONE])
    assert intersection_over_union(one, others)[:3].tolist() == [1, 0, 4 / 28]
    assert np.isnan(intersection_over_union(one, others)[3])


def test_nothing_to_tell() -> None:
    with pytest.raises(ValueError, match=r"no map was added"):
        BoxTally().accuracies()


def test_whole_pixels_are_cut_down_and_keep_one() -> None:
    boxes = np.array([[[0, 0, 48, 48], [3.5, 4.2, 10.9, 12.0], [7.1, 7.2, 7.3, 7.4], [47.9, 47.9, 48, 48]]])
    assert whole_pixels(boxes, 48, 48)[0].tolist() == [[0, 0, 47, 47], [3, 4, 9, 11], [7, 7, 7, 7], [47] * 4]
    assert whole_pixels(boxes, 48, 96)[0, 1].tolist() == [7, 8, 20, 23]
    assert np.isnan(whole_pixels(np.full((1, 1, 4), np.nan), 48, 48)).all()


def test_pixels_of_a_picture_come_back_from_any_image_size_as_they_were() -> None:
    pixels = np.arange(224.0)
    corners = np.stack([pixels, pixels, pixels + 1, pixels + 1], axis=1)
    expected = np.stack([pixels] * 4, axis=1)
    for image_size in range(8, 225):
        boxes = corners * image_size / 224  # as `PictureFrame.in_square` does
        assert np.array_equal(whole_pixels(boxes[:, None], image_size, 224)[:, 0], expected)
        size = np.full((224, 1, 2), image_size / 224)
        assert np.array_equal(truncated_pixels(boxes[:, None], size, image_size, 224)[:, 0], expected)


@pytest.mark.parametrize("side", [32, 64, 100, 224, 300, 500])
def test_truncated_pixels_are_as_published_for_pictures_of_any_size(side: int) -> None:
    generator = np.random.default_rng(side)
    begins = generator.integers(0, side, (50, 1, 2))
    lasts = generator.integers(begins, side)
    expected = [int(value * 224 / side) for value in np.concatenate([begins, lasts], 2).ravel().tolist()]
    edges = np.concatenate([begins, lasts + 1], axis=2) * 96 / side
    found = truncated_pixels(edges, np.full((50, 1, 2), 96 / side), 96, 224)
    assert found.ravel().tolist() == expected
    if side != 224:
        assert not np.array_equal(found, whole_pixels(edges, 96, 224))
