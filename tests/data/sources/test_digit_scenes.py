import time

import pytest
import torch

from kdcam.data.common_config import ClassSplitConfig
from kdcam.data.source_configs import DigitScenesConfig
from kdcam.data.sources.digit_scenes import draw_scenes, gather_sources, load_digit_scenes, scene_counts
from kdcam.data.sources.digits import DIGIT_NAMES, read_digits
from kdcam.data.splits.class_split import classes_of
from kdcam.data.splits.held_out import stratified_split
from kdcam.errors import DataError
from kdcam.runtime.progress import Silent
from kdcam.runtime.seeding import seeded_generator


def load(**settings):
    return load_digit_scenes(
        DigitScenesConfig(**({"train_size": 300, "test_size": 60} | settings)), progress=Silent()
    )


def same_pixels(first, second):
    return torch.equal(first.images.pixels, second.images.pixels)


@pytest.mark.parametrize("size", [16, 48, 64])
def test_the_parts_their_sizes_boxes_and_labels(size):
    source = load(image_size=size)
    assert (len(source.train), len(source.validation), len(source.test)) == (270, 30, 60)
    for part in (source.train, source.validation, source.test):
        assert part.images.pixels.shape == (len(part), 1, size, size)
        assert torch.bincount(part.targets, minlength=10).tolist() == [len(part) // 10] * 10
        boxes = part.boxes
        assert boxes.shape == (len(part), 4)
        assert float(boxes.min()) >= 0
        assert float(boxes.max()) <= size
        height = boxes[:, 3] - boxes[:, 1]
        assert float(height.min()) >= 0.2 * size
        assert float(height.max()) <= 0.6 * size
        assert bool((boxes[:, 2] > boxes[:, 0]).all())


def test_with_a_class_split_halves_are_of_base_digits():
    split = ClassSplitConfig(novel=3, seed=2)
    base = {int(name) for name in classes_of(DigitScenesConfig(class_split=split), DIGIT_NAMES)}
    values, targets = read_digits()
    sources = gather_sources(values, targets, halves_of=sorted(base))
    assert set(targets[sources.halves].tolist()) == base
    whole, same = load(), load(class_split=split)
    assert not same_pixels(whole.train, same.train)
    assert torch.equal(whole.train.boxes, same.train.boxes)
    assert same_pixels(load(class_split=split, test_size=20).test, same.test.subset(torch.arange(20)))


def test_no_half_is_of_a_digit_that_is_left_out():
    values, targets = read_digits()
    # Only the digits 8 and 9 have ink; labelled are others.
    ink = values * (targets >= 8)[:, None, None]
    labels = torch.arange(8).repeat(5)
    spread = []
    for halves_of in (range(8), range(10)):
        sources = gather_sources(ink, targets, halves_of=halves_of)
        drawn = draw_scenes(labels, sources, size=48, digits=1, generator=seeded_generator(5))
        bare = gather_sources(0 * ink, targets, halves_of=halves_of)
        empty = draw_scenes(labels, bare, size=48, digits=1, generator=seeded_generator(5))
        spread.append(int((drawn.pixels != empty.pixels).sum()))
    assert spread[0] == 0
    assert spread[1] > 1000


def test_the_box_holds_what_changes_with_the_label():
    values, targets = read_digits()
    sources = gather_sources(values, targets)
    labels = torch.zeros(40, dtype=torch.int64)
    zeros, ones = (
        draw_scenes(labels + shift, sources, size=48, digits=1, generator=seeded_generator(5))
        for shift in (0, 1)
    )
    changed = (zeros.pixels != ones.pixels)[:, 0]
    rows, columns = torch.arange(48)[:, None], torch.arange(48)
    inside = torch.zeros_like(changed)
    for boxes in (zeros.boxes, ones.boxes):
        x0, y0, x1, y1 = (boxes[:, 0, i, None, None] for i in range(4))
        # the faint rim of a digit, below the ink that counts for the box, reaches a few pixels further
        inside |= (columns >= x0 - 5) & (columns < x1 + 5) & (rows >= y0 - 5) & (rows < y1 + 5)
    assert bool(changed.flatten(1).any(1).all())
    assert not bool((changed & ~inside).any())


def test_the_same_settings_draw_the_same_scenes():
    torch.manual_seed(0)
    first = load()
    torch.manual_seed(1)
    again = load()
    for a, b in zip(first[:3], again[:3], strict=True):
        assert same_pixels(a, b)
        assert torch.equal(a.targets, b.targets)
        assert torch.equal(a.boxes, b.boxes)


def test_the_split_seed_changes_training_and_leaves_the_test_part():
    first, other = load(), load(split_seed=1)
    assert not same_pixels(first.train, other.train)
    assert not same_pixels(first.validation, other.validation)
    assert same_pixels(first.test, other.test)


def test_a_longer_part_begins_like_a_shorter_one():
    short, long = load(test_size=60), load(test_size=300)
    assert torch.equal(short.test.images.pixels, long.test.images.pixels[:60])
    assert len(load(validation=0.0).train) == 300
    assert load(validation=0.0).validation is None


def test_the_parts_are_made_of_disjoint_source_digits(monkeypatch):
    values, targets = read_digits()
    marked = torch.arange(len(values))[:, None, None].expand(-1, 8, 8)  # each digit's ink is its own number
    used = []

    def spy(values, targets, **keys):
        used.append(set(values[:, 0, 0].tolist()))
        return gather_sources(read_digits()[0][: len(values)], targets, **keys)

    monkeypatch.setattr("kdcam.data.sources.digit_scenes.read_digits", lambda: (marked, targets))
    monkeypatch.setattr("kdcam.data.sources.digit_scenes.gather_sources", spy)
    load(validation=0.2)
    train, validation, test = used
    assert not train & validation
    assert not (train | validation) & test
    assert len(train) + len(validation) == 1300
    assert len(test) == 497
    kept, _ = stratified_split(targets[:1300], num_classes=10, share=0.2, seed=0)
    assert train == set(kept.tolist())


def test_multi_label_scenes_have_one_to_three_different_digits_each_with_a_box():
    part = load(multi_label=True, train_size=600).train
    assert part.targets.shape == (540, 10)
    assert set(part.targets.unique().tolist()) == {0.0, 1.0}
    number = part.targets.sum(1).long()
    assert torch.bincount(number, minlength=4)[1:].min() > 100
    assert int(number.max()) == 3
    assert part.boxes.shape == (540, 10, 4)
    assert torch.equal(part.boxes.isnan().all(-1), part.targets == 0)
    assert not bool(part.boxes[part.targets == 1].isnan().any())


def test_a_share_without_a_scene_is_refused():
    with pytest.raises(
        DataError, match=r"validation = 0\.001 of train_size = 300 makes 0 .* data\.validation = 0"
    ):
        load(validation=0.001)
    assert scene_counts(DigitScenesConfig()) == (4500, 500)


def test_seven_thousand_scenes_take_a_few_seconds():
    begin = time.perf_counter()
    load(train_size=5000, test_size=2000)
    assert time.perf_counter() - begin < 10  # 1 to 2 on one core
