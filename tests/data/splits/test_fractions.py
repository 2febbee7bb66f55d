import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdcam.data.batches.streaming import StreamImages
from kdcam.data.common_config import NoiseConfig
from kdcam.data.datasets import describe_data, load_data
from kdcam.data.source_configs import DigitScenesConfig, DigitsConfig, ImageFolderConfig
from kdcam.data.splits.fractions import fraction_count, fraction_of
from kdcam.errors import DataError

COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=12)
PLACE = "data (here)"


def labels(counts):
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))]


def kept(targets, fraction, seed=0):
    return fraction_of(targets, fraction=fraction, seed=seed, place=PLACE)


def rows(images, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(images, classes, generator=generator) < torch.linspace(0.02, 0.4, classes)).float()


@given(COUNTS, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 9))
def test_fractions_lie_inside_each_other_and_show_each_class(counts, one, other, seed):
    targets = labels(counts)
    smaller, larger = sorted((one, other))
    if round(smaller * len(targets)) < len(counts):
        with pytest.raises(DataError, match=r"one image of each class takes"):
            kept(targets, smaller, seed)
        return
    few, many = kept(targets, smaller, seed), kept(targets, larger, seed)
    assert set(few.tolist()) <= set(many.tolist())
    for positions, fraction in ((few, smaller), (many, larger)):
        assert len(positions) == round(fraction * len(targets))
        assert torch.equal(positions, positions.unique())
        assert bool((torch.bincount(targets[positions], minlength=len(counts)) >= 1).all())


@pytest.mark.parametrize(
    ("counts", "fraction", "of_each"),
    [
        ([10, 20, 30], 0.1, [1, 2, 3]),
        ([10, 20, 30], 0.5, [5, 10, 15]),
        ([2, 98], 0.1, [1, 9]),  # a fifth of an image: one stays
        ([4, 4, 4, 4], 0.375, [2, 2, 1, 1]),  # 6 of 16: the first of equals have one more
        ([3, 5], 1.0, [3, 5]),
    ],
)
def test_what_is_kept_of_each_class_by_hand(counts, fraction, of_each):
    targets = labels(counts)
    assert torch.bincount(targets[kept(targets, fraction)]).tolist() == of_each


def test_the_images_depend_on_the_seed_alone():
    targets = labels([50, 50])
    first = kept(targets, 0.2)
    torch.manual_seed(99)
    assert torch.equal(first, kept(targets, 0.2))
    assert not torch.equal(first, kept(targets, 0.2, seed=1))


def test_rows_of_several_labels_are_stratified_and_lie_inside_each_other():
    targets = rows(400, 8)
    before = set()
    for fraction in (0.05, 0.1, 0.3, 0.5, 0.75, 1.0):
        positions = kept(targets, fraction)
        assert len(positions) == len(positions.unique()) == round(fraction * 400)
        of_each = targets[positions].sum(0)
        assert bool((of_each >= 1).all())
        assert bool(((of_each - fraction * targets.sum(0)).abs() <= 3).all())
        assert before <= set(positions.tolist())
        before = set(positions.tolist())


def test_rows_too_few_to_show_each_class_are_refused():
    targets = torch.eye(6).repeat_interleave(10, 0)
    assert bool((targets[kept(targets, 0.1)].sum(0) == 1).all())
    with pytest.raises(DataError, match=r"fraction = 0\.05 of 60 training images keeps 3, .* takes 6; raise"):
        kept(targets, 0.05)


@pytest.mark.parametrize("fraction", [0.1, 0.5])
@pytest.mark.parametrize("targets", [labels([400, 300, 200, 101]), rows(1001, 8)], ids=["labels", "rows"])
def test_one_more_picture_changes_few_of_a_fraction_by_keys(targets, fraction):
    keys = [hashlib.sha256(b"%d" % index).digest() for index in range(len(targets))]

    def kept_without(index):
        left = [place for place in range(len(keys)) if place != index]
        positions = fraction_of(
            targets[left], fraction=fraction, seed=0, place=PLACE, keys=[keys[place] for place in left]
        )
        assert len(positions) == round(fraction * len(left))
        return {keys[left[position]] for position in positions.tolist()}

    whole = kept_without(None)
    assert max(len(whole ^ kept_without(index)) for index in range(0, 1001, 50)) <= 4


def test_fractions_of_rows_by_keys_lie_inside_each_other_and_show_each_class():
    targets = rows(400, 8)
    keys = [hashlib.sha256(b"%d" % index).digest() for index in range(400)]
    before = set()
    for fraction in (0.05, 0.1, 0.3, 0.5, 0.75, 1.0):
        positions = fraction_of(targets, fraction=fraction, seed=0, place=PLACE, keys=keys)
        assert bool((targets[positions].sum(0) >= 1).all())
        assert before <= set(positions.tolist())
        before = set(positions.tolist())
    with pytest.raises(DataError, match="keeps 2, and one image of each class takes"):
        fraction_of(targets, fraction=0.005, seed=0, place=PLACE, keys=keys)


def test_too_small_a_fraction_is_refused_before_anything_is_read():
    assert fraction_count(100, fewest=10, fraction=0.1, place=PLACE) == 10
    for look in (describe_data, load_data):
        with pytest.raises(
            DataError, match=r"data \(digits\): fraction = 0\.005 of 1170 .* keeps 6, .* takes 10"
        ):
            look(DigitsConfig(fraction=0.005))


@pytest.mark.parametrize(
    "settings",
    [
        DigitsConfig(),
        DigitScenesConfig(train_size=200, test_size=20),
        DigitScenesConfig(train_size=200, test_size=20, multi_label=True),
    ],
)
def test_validation_and_test_stay_and_the_summary_counts_it(settings):
    whole, tenth = load_data(settings), load_data(settings.model_copy(update={"fraction": 0.2}))
    for part in ("validation", "test"):
        one, other = getattr(whole, part), getattr(tenth, part)
        assert torch.equal(one.images.pixels, other.images.pixels)
        assert torch.equal(one.targets, other.targets)
    assert len(tenth.train) == round(0.2 * len(whole.train))
    summary = describe_data(settings.model_copy(update={"fraction": 0.2}))
    assert summary.train_images == len(tenth.train)
    assert f"of the training images the fraction 0.2, {len(tenth.train)}" in summary.note


@pytest.mark.parametrize(("image_size", "streamed"), [(16, False), (72, True)])
def test_a_fraction_of_a_folder_keeps_images_and_paths_together(tmp_path, paint, image_size, streamed):
    for number, name in enumerate(("ant", "bee")):
        paint(tmp_path / name, 20, first=20 * number)
    settings = ImageFolderConfig(root=tmp_path, image_size=image_size, fraction=0.25, workers=0)
    train = load_data(settings).train
    assert isinstance(train.images, StreamImages) == streamed
    assert torch.bincount(train.targets).tolist() == [4, 4]
    assert describe_data(settings).train_images == len(train) == len(train.paths) == 8
    assert [path.parent.name for path in train.paths] == [("ant", "bee")[k] for k in train.targets]
    if not streamed:
        reds = train.images.pixels[:, 0, 0, 0].tolist()
        assert reds == [int(path.stem) for path in train.paths]


def test_wrong_labels_of_a_file_go_to_the_images_that_are_kept(tmp_path):
    clean = load_data(DigitsConfig(validation=0)).train.targets
    wrong = (clean + 1) % 10
    file = tmp_path / "labels.csv"
    lines = [f"{index},{label}" for index, label in enumerate(wrong.tolist())]
    file.write_text("index,people\n" + "\n".join(lines) + "\n")
    noise = NoiseConfig(kind="file", file=file, column="people")
    parts = load_data(DigitsConfig(noise=noise, fraction=0.1))
    assert len(parts.train) == 117
    assert torch.equal(parts.train.targets, (parts.noise.clean + 1) % 10)


def test_a_run_from_before_there_was_the_key_is_of_the_same_recipe():
    assert "fraction" not in DigitsConfig().model_dump(mode="json")
    assert DigitsConfig(fraction=0.1).model_dump(mode="json")["fraction"] == 0.1
