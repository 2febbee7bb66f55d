import time
from itertools import islice

import pytest
import torch

from kdcam.data.batches.batch import Views, batch_bounds
from kdcam.data.batches.resident import ResidentBatches, ResidentImages

CPU = torch.device("cpu")


def make(count=23, *, size=8, image_size=8, channels=1, **changes):
    pixels = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, channels, size, size)
    settings = {"batch_size": 5, "training": True, "augment": (), "seed": 0, "device": CPU} | changes
    images = ResidentImages(pixels.clone(), image_size=image_size)
    return ResidentBatches(images, torch.arange(count) % 3, **settings)


def same(first, second):
    return all(
        torch.equal(a, b)
        for x, y in zip(first, second, strict=True)
        for a, b in zip(x[:3], y[:3], strict=True)
    )


def test_training_yields_every_image_once_with_its_target_and_index():
    batches = make()
    found = list(batches.epoch(0))
    indices = torch.cat([batch.indices for batch in found])
    assert len(found) == len(batches) == 5
    assert batches.num_images == 23
    assert sorted(indices.tolist()) == list(range(23))
    assert indices.tolist() != list(range(23))
    for batch in found:
        assert torch.equal(batch.images[:, 0, 0, 0], batch.indices / 255)
        assert torch.equal(batch.targets, batch.indices % 3)
        assert batch.images.dtype == torch.float32


def test_a_batch_is_a_function_of_seed_epoch_and_number():
    batches = make(augment=("crop", "flip", "cutout"))
    whole = list(batches.epoch(3))
    torch.manual_seed(5)
    list(batches.epoch(1))
    assert same(whole, batches.epoch(3))
    assert same(whole[2:], batches.epoch(3, start_batch=2))
    assert same(whole, make(augment=("crop", "flip", "cutout")).epoch(3))
    assert not same(whole, batches.epoch(4))
    assert not same(whole, make(augment=("crop", "flip", "cutout"), seed=1).epoch(3))


def test_global_random_state_is_untouched():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(make(augment=("crop",)).epoch(0))
    assert torch.equal(before, torch.get_rng_state())


def test_evaluation_is_in_order_whole_and_not_augmented():
    batches = make(training=False, augment=("crop", "cutout"), count=21)
    found = list(batches.epoch(7))
    assert torch.cat([batch.indices for batch in found]).tolist() == list(range(21))
    assert len(found[-1].images) == 1
    assert torch.equal(found[0].images[:, 0, 3, 3], torch.arange(5) / 255)


def test_training_drops_a_last_batch_of_one_image_only():
    assert make(count=21).num_images == 20
    assert make(count=22).num_images == 22
    assert make(count=3, batch_size=1).num_images == 3
    assert make(count=1).num_images == len(make(count=1)) == 0
    assert batch_bounds(5, 2, drop_single=False) == [(0, 2), (2, 4), (4, 5)]


def test_images_are_channels_last_in_the_unit_interval():
    pixels = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    pixels[0] = 255
    images = ResidentImages(pixels, image_size=8)
    batches = ResidentBatches(
        images, torch.zeros(6).long(), batch_size=6, training=False, augment=(), seed=0, device=CPU
    )
    [batch] = batches.epoch(0)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch.images, pixels / 255)
    assert float(batch.images.max()) == 1.0


@pytest.mark.parametrize("image_size", [4, 20])
def test_other_sizes_are_resized_by_the_batch(image_size):
    [batch] = make(count=4, image_size=image_size, channels=3, training=False).epoch(0)
    assert batch.images.shape == (4, 3, image_size, image_size)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(batch.images[:, 0, 2, 2], torch.arange(4) / 255)


def test_subset_keeps_the_order_asked_for():
    images = ResidentImages(torch.arange(5, dtype=torch.uint8)[:, None, None, None], image_size=1)
    assert images.subset(torch.tensor([4, 1])).pixels.flatten().tolist() == [4, 1]
    assert len(images) == 5


def test_wrong_pixels_are_a_programmers_error():
    with pytest.raises(ValueError, match="uint8"):
        ResidentImages(torch.zeros(2, 1, 4, 4), image_size=4)


def coloured(**changes):
    """Return batches of images that tell by their pixels how they are moved and mirrored."""
    pixels = torch.randint(
        1, 256, (23, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    settings = {
        "batch_size": 5,
        "training": True,
        "augment": ("crop", "flip"),
        "seed": 0,
        "device": CPU,
    } | changes
    return ResidentBatches(ResidentImages(pixels, image_size=8), torch.arange(23), **settings)


def every_view(views, **changes):
    """Return the images of all views, (V, N, C, H, W)."""
    batches = coloured(training=False, views=views, **changes)
    return torch.stack([torch.cat([b.images for b in batches.epoch(v)]) for v in range(views.per_image)])


def test_training_sees_the_views_that_evaluation_lists_whatever_seed_epoch_and_batch_size():
    kept = every_view(Views(3, 5), batch_size=7)
    for seed, epoch, batch_size in [(0, 0, 5), (1, 4, 8)]:
        found = list(coloured(views=Views(3, 5), seed=seed, batch_size=batch_size).epoch(epoch))
        for batch in found:
            assert torch.equal(batch.images, kept[batch.views, batch.indices])
        assert set(torch.cat([batch.views for batch in found]).tolist()) == {0, 1, 2}
    assert torch.equal(kept, every_view(Views(3, 5), seed=9))
    assert torch.equal(kept[:2], every_view(Views(2, 5)))
    assert not torch.equal(kept, every_view(Views(3, 6)))
    assert len({view.numpy().tobytes() for view in kept}) == 3


def test_the_views_drawn_are_a_function_of_seed_epoch_and_batch_number():
    batches = coloured(views=Views(3, 0))
    whole = [batch.views.tolist() for batch in batches.epoch(2)]
    assert [batch.views.tolist() for batch in batches.epoch(2, start_batch=2)] == whole[2:]
    assert [batch.views.tolist() for batch in batches.epoch(3)] != whole
    assert [batch.views.tolist() for batch in coloured(views=Views(3, 0), seed=1).epoch(2)] != whole
    assert all(batch.views is None for batch in coloured().epoch(0))


def test_views_of_images_that_are_not_augmented_are_the_images():
    [batch] = coloured(views=Views(1, 0), augment=(), batch_size=23).epoch(0)
    plain = torch.cat([one.images for one in coloured(training=False, augment=()).epoch(0)])
    assert torch.equal(batch.images, plain[batch.indices])


def test_views_and_indices_are_kept_on_the_host_whatever_the_device():
    here = list(coloured(views=Views(3, 0)).epoch(1))
    there = list(coloured(views=Views(3, 0), device=torch.device("meta")).epoch(1))
    for seen, batch in zip(here, there, strict=True):
        assert (batch.images.device.type, batch.indices.device.type) == ("meta", "meta")
        assert torch.equal(batch.views, seen.views)
        assert torch.equal(batch.host_indices, seen.indices)
    assert all(batch.host_indices is None for batch in coloured().epoch(0))


def test_the_number_of_images_decides_a_view_too():
    pixels = torch.randint(1, 256, (23, 1, 8, 8), dtype=torch.uint8)
    first, second = (
        ResidentBatches(
            ResidentImages(pixels[:count], image_size=8),
            torch.arange(count),
            batch_size=count,
            training=False,
            augment=("crop", "flip"),
            seed=0,
            device=CPU,
            views=Views(1, 5),
        )
        for count in (20, 23)
    )
    [few], [many] = first.epoch(0), second.epoch(0)
    assert not torch.equal(few.images, many.images[:20])


def test_batches_are_cheap():
    batches = make(count=2048, size=48, image_size=48, batch_size=64, augment=("crop", "flip"))
    list(islice(batches.epoch(0), 4))
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        list(islice(batches.epoch(1), 20))
        times.append((time.perf_counter() - begin) / 20)
    assert min(times) < 0.015  # a tenth of this is usual; a small network's step takes 30 ms and more
