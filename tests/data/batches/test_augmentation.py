import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup
from torch.nn.functional import pad

from kdcam.data.batches.augmentation import Mixing, apply_crop_flips, augment_batch, cutout, draw_crop_flips
from kdcam.data.batches.batch import Batch
from kdcam.runtime.seeding import seeded_generator


def images(n=16, size=12, channels=3):
    return torch.randint(1, 256, (n, size, size, channels), dtype=torch.uint8, generator=seeded_generator(0))


def shift_and_flip(batch, *, shift, flip, generator):
    return apply_crop_flips(batch, draw_crop_flips(len(batch), shift=shift, flip=flip, generator=generator))


def test_a_shifted_image_is_one_of_the_crops_of_the_padded_image():
    batch, shift = images(), 2
    moved = shift_and_flip(batch, shift=shift, flip=False, generator=seeded_generator(1))
    places = set()
    for image, result in zip(batch, moved, strict=True):
        padded = pad(image, (0, 0, shift, shift, shift, shift))
        found = [
            (y, x)
            for y in range(2 * shift + 1)
            for x in range(2 * shift + 1)
            if torch.equal(padded[y : y + 12, x : x + 12], result)
        ]
        assert len(found) == 1
        places.update(found)
    assert len(places) > 5


def test_flip_mirrors_about_half_of_the_images_and_nothing_else():
    batch = images(200)
    flipped = shift_and_flip(batch, shift=0, flip=True, generator=seeded_generator(1))
    same = (flipped == batch).flatten(1).all(1)
    mirrored = (flipped == batch.flip(2)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 70 < int(mirrored.sum()) < 130


def test_shift_and_flip_together_equal_flip_then_shift():
    batch = images(64)
    both = shift_and_flip(batch, shift=2, flip=True, generator=seeded_generator(4))
    generator = seeded_generator(4)
    flipped = shift_and_flip(batch, shift=0, flip=True, generator=generator)
    shifted = shift_and_flip(flipped, shift=2, flip=False, generator=generator)
    # the same draws in the same order, but a mirrored image is moved the other way
    mirrored = ~(flipped == batch).flatten(1).all(1)
    assert torch.equal(both[~mirrored], shifted[~mirrored])
    assert bool(((both > 0).flatten(1).sum(1) == (shifted > 0).flatten(1).sum(1)).all())


def test_cutout_paints_a_square_of_half_the_side_in_the_mean_colour():
    batch = images(100, size=8)
    result = cutout(batch, generator=seeded_generator(2))
    mean = batch.float().mean((1, 2)).round().to(torch.uint8)
    changed = (result != batch).any(-1)
    assert int(changed.flatten(1).sum(1).max()) <= 16
    assert (
        int(changed.flatten(1).sum(1).min()) >= 3
    )  # a corner at least, less a pixel that had the mean colour
    assert torch.equal(result[changed], mean[:, None, None].expand_as(batch)[changed])


def test_no_names_change_nothing_and_the_generator_decides():
    batch = images()
    assert torch.equal(augment_batch(batch, (), generator=seeded_generator(0)), batch)
    names = ("crop", "flip", "cutout")
    first, again, other = (augment_batch(batch, names, generator=seeded_generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.uint8


@pytest.mark.parametrize("size", [1, 2, 8, 31])
def test_every_size_works(size):
    batch = images(3, size=size, channels=1)
    assert (
        augment_batch(batch, ("crop", "flip", "cutout"), generator=seeded_generator(0)).shape == batch.shape
    )


def batch(images: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(images, 1, 8, 8, generator=generator)
    return Batch(pixels, torch.arange(images) % 5, torch.arange(images))


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_equals_timm(mixup: float, cutmix: float) -> None:
    given = batch(6)
    np.random.seed(0)
    ours = Mixing(mixup=mixup, cutmix=cutmix, num_classes=5)(given)
    np.random.seed(0)
    images, rows = Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=0.0, num_classes=5)(
        given.images.clone(), given.targets
    )
    assert torch.equal(ours.images, images)
    assert torch.equal(ours.targets, rows)


def test_last_of_an_odd_number_stays_and_rows_sum_to_one() -> None:
    given = batch(7)
    before = given.images.clone()
    mixed = Mixing(mixup=1.0, cutmix=0.0, num_classes=5)(given)
    assert torch.equal(given.images, before)
    assert torch.equal(mixed.images[-1], before[-1])
    assert mixed.targets[-1].tolist() == [0, 1, 0, 0, 0]
    torch.testing.assert_close(mixed.targets.sum(1), torch.ones(7))
    assert torch.equal(mixed.indices, given.indices)
