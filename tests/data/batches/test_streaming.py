import pickle

import numpy
import pytest
import torch
from PIL import Image

from kdcam.data.batches.batch import Views
from kdcam.data.batches.decoding import read_image
from kdcam.data.batches.streaming import FilePictures, StreamBatches, StreamImages
from kdcam.data.sources.picture_files import read_resident
from kdcam.errors import DataError
from kdcam.runtime.progress import Silent
from kdcam.runtime.seeding import seeded_generator

CPU = torch.device("cpu")
EVERY_AUGMENTATION = ("resized-crop", "color-jitter", "trivial-augment", "crop", "flip", "cutout")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = numpy.random.default_rng(0)
    for number in range(11):
        array = random.integers(0, 256, (20, 24, 3), dtype=numpy.uint8)
        Image.fromarray(array).resize((90, 75)).save(folder / f"{number:02}.png")
    return sorted(folder.iterdir())


def make(paths, **changes):
    images = StreamImages(FilePictures(paths), image_size=72, channels=3)
    settings = {
        "batch_size": 4,
        "training": True,
        "augment": (),
        "workers": 0,
        "seed": 0,
        "device": CPU,
    }
    return StreamBatches(images, torch.arange(len(paths)) % 2, **(settings | changes))


def same(first, second):
    return all(
        torch.equal(a, b)
        for x, y in zip(first, second, strict=True)
        for a, b in zip(x[:3], y[:3], strict=True)
    )


def test_evaluation_is_in_order_whole_and_as_read_image_reads(paths):
    found = list(make(paths, training=False, augment=("flip", "crop")).epoch(0))
    assert torch.cat([batch.indices for batch in found]).tolist() == list(range(11))
    assert torch.equal(torch.cat([batch.targets for batch in found]), torch.arange(11) % 2)
    images = torch.cat([batch.images for batch in found])
    assert images.shape == (11, 3, 72, 72)
    assert found[0].images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images[5], read_image(paths[5], image_size=72, channels=3) / 255)


def test_training_alone_decodes_photos_at_a_reduced_size(tmp_path):
    """Views of training, too: a cached teacher must see what its student sees."""
    noise = numpy.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=numpy.uint8)
    paths = [tmp_path / f"{number}.jpg" for number in range(2)]
    for path in paths:
        Image.fromarray(noise).save(path, quality=95)
    exact = read_image(paths[0], image_size=72, channels=3) / 255
    evaluated, trained, viewed = (
        torch.cat([batch.images for batch in make(paths, **changes).epoch(0)])
        for changes in ({"training": False}, {}, {"training": False, "views": Views(1, 0)})
    )
    assert torch.equal(evaluated[0], exact)
    assert torch.equal(trained[0], viewed[0])
    assert not torch.equal(trained[0], exact)
    assert float((trained[0] - exact).abs().mean()) < 0.05
    images = StreamImages(FilePictures(paths), image_size=32, channels=3)
    held, _ = read_resident(images, task="reading", progress=Silent())
    assert torch.equal(held.pixels[0], read_image(paths[0], image_size=32, channels=3))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_is_a_function_of_seed_epoch_and_number(paths, workers):
    whole = list(make(paths, augment=EVERY_AUGMENTATION).epoch(3))
    batches = make(paths, augment=EVERY_AUGMENTATION, workers=workers)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert same(whole, batches.epoch(3))
    next(iter(batches.epoch(1)))  # left after the first batch
    assert same(whole[1:], batches.epoch(3, start_batch=1))
    assert not same(whole, batches.epoch(4))
    assert torch.equal(state, torch.get_rng_state())
    assert not same(whole, make(paths, augment=EVERY_AUGMENTATION, seed=1).epoch(3))


@pytest.mark.parametrize("workers", [0, 2])
def test_training_sees_the_views_that_evaluation_lists(paths, workers):
    augment = ("resized-crop", "color-jitter", "crop", "flip")
    listing = make(paths, augment=augment, training=False, views=Views(3, 5), workers=workers, batch_size=3)
    kept = torch.stack([torch.cat([batch.images for batch in listing.epoch(view)]) for view in range(3)])
    batches = make(paths, augment=augment, views=Views(3, 5), seed=2)
    found = list(batches.epoch(4))
    for batch in found:
        assert torch.equal(batch.images, kept[batch.views, batch.indices])
    assert len(torch.cat([batch.views for batch in found]).unique()) > 1
    late = list(batches.epoch(4, start_batch=1))
    assert [batch.views.tolist() for batch in late] == [batch.views.tolist() for batch in found[1:]]


def test_views_and_indices_are_kept_on_the_host_whatever_the_device(paths):
    here = list(make(paths, views=Views(3, 5)).epoch(1))
    there = list(make(paths, views=Views(3, 5), device=torch.device("meta")).epoch(1))
    for seen, batch in zip(here, there, strict=True):
        assert (batch.images.device.type, batch.indices.device.type) == ("meta", "meta")
        assert torch.equal(batch.views, seen.views)
        assert torch.equal(batch.host_indices, seen.indices)
    assert all(batch.host_indices is None for batch in make(paths).epoch(0))


def test_skipped_batches_are_not_decoded(paths):
    class Counting(FilePictures):
        read = 0

        def picture(self, index, at_least):
            self.read += 1
            return super().picture(index, at_least)

    source = Counting(paths)
    batches = StreamBatches(
        StreamImages(source, image_size=72, channels=3),
        torch.zeros(11).long(),
        batch_size=4,
        training=True,
        augment=(),
        workers=0,
        seed=0,
        device=CPU,
    )
    assert len(list(batches.epoch(0, start_batch=2))) == 1
    assert source.read == 3


def test_training_drops_a_last_batch_of_one_image_only(paths):
    batches = make(paths, batch_size=5)
    assert (len(batches), batches.num_images) == (2, 10)
    assert sum(len(batch.images) for batch in batches.epoch(0)) == 10
    assert make(paths, batch_size=5, training=False).num_images == 11


@pytest.mark.parametrize("name", EVERY_AUGMENTATION)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_augmentation_changes_images_and_keeps_their_form(paths, name, channels):
    images = StreamImages(FilePictures(paths), image_size=72, channels=channels)
    plain = images.read(0)
    results = [images.read_augmented(0, (name,), seeded_generator(seed)) for seed in range(8)]
    assert all(result.shape == plain.shape == (channels, 72, 72) for result in results)
    assert any(not torch.equal(result, plain) for result in results)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_breaks_later_is_a_data_error_of_one_line(paths, tmp_path, workers):
    broken = tmp_path / "gone.png"
    batches = make([*paths, broken], training=False, workers=workers)
    with pytest.raises(DataError) as caught:
        list(batches.epoch(0))
    assert str(caught.value).startswith(str(broken))
    assert "\n" not in str(caught.value)


def test_the_images_travel_to_spawned_workers(paths):
    images = StreamImages(FilePictures(paths), image_size=72, channels=3).subset(torch.tensor([4, 2]))
    again = pickle.loads(pickle.dumps(images))
    assert len(again) == 2
    assert torch.equal(again.read(0), read_image(paths[4], image_size=72, channels=3))
