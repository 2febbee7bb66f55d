import pytest
import torch
from small_runs import Watcher
from tensor_batches import TensorBatches
from torch import nn

from kdcam.errors import DataError, ModelError
from kdcam.evaluation.robustness.evaluated_images import (
    collect_logits,
    drawn_batches,
    drawn_text,
    first_batches,
    images_to_attack,
    rebatched,
)


@pytest.fixture
def batches() -> TensorBatches:
    greys = torch.arange(10) / 10
    return TensorBatches(greys[:, None, None, None], torch.arange(10), batch_size=4)


def test_the_last_batch_is_cut(batches: TensorBatches) -> None:
    found = list(first_batches(batches, 6))
    assert [placed.positions.tolist() for placed in found] == [[0, 1, 2, 3], [4, 5]]
    assert [len(placed.batch.images) for placed in found] == [4, 2]


def test_gaps_are_closed_so_that_batches_are_full(batches: TensorBatches) -> None:
    wanted = torch.tensor([True, False, True, True, False, True, True, True, False])
    found = list(rebatched(batches, wanted))
    assert [placed.positions.tolist() for placed in found] == [[0, 2, 3, 5], [6, 7]]
    for placed in found:
        assert torch.equal(placed.batch.targets, placed.positions)
        assert torch.equal(placed.batch.indices, placed.positions)
        assert torch.equal(placed.batch.images[:, 0, 0, 0], placed.positions / 10)


def test_no_image_is_read_after_the_last_wanted_one(batches: TensorBatches) -> None:
    seen = []

    class Watched(TensorBatches):
        def epoch(self, epoch: int, start_batch: int = 0):
            for batch in super().epoch(epoch, start_batch):
                seen.append(len(batch.indices))
                yield batch

    watched = Watched(batches.images, batches.targets, batch_size=4)
    wanted = torch.zeros(10, dtype=torch.bool)
    assert list(rebatched(watched, wanted)) == []
    assert seen == []
    wanted[5] = True
    assert [placed.positions.tolist() for placed in rebatched(watched, wanted)] == [[5]]
    assert seen == [4, 4]


def test_how_many_images(batches: TensorBatches) -> None:
    assert (images_to_attack(batches, 3), images_to_attack(batches, 100)) == (3, 10)
    with pytest.raises(ValueError, match=r"n_examples is 0"):
        images_to_attack(batches, 0)
    empty = TensorBatches(torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match=r"no image"):
        images_to_attack(empty, 5)


def test_what_was_drawn_is_said() -> None:
    assert drawn_text(25, 10) == "25 images of the part, drawn evenly from its 10 classes"
    assert drawn_text(5, 100) == "5 images of the part, one of each of 5 drawn from its 100 classes"


def test_drawn_images_keep_their_positions_in_the_part(batches: TensorBatches) -> None:
    positions = torch.tensor([7, 2, 5])
    chosen = TensorBatches(batches.images[positions], batches.targets[positions], batch_size=2)
    drawn = drawn_batches(chosen, positions)
    assert (drawn.num_images, len(drawn)) == (3, 2)
    found = list(drawn.epoch(0))
    assert torch.cat([batch.indices for batch in found]).tolist() == [7, 2, 5]
    assert torch.cat([batch.targets for batch in found]).tolist() == [7, 2, 5]


@pytest.fixture
def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(16, 3))


@pytest.fixture
def random_batches() -> TensorBatches:
    return TensorBatches(torch.rand(10, 1, 4, 4), torch.arange(10) % 3)


def test_all_or_the_first_images(classifier: nn.Module, random_batches: TensorBatches) -> None:
    statistics = classifier[0].running_mean.clone()
    watcher = Watcher()
    logits, targets = collect_logits(classifier, random_batches, task="calibration", progress=watcher)
    assert classifier.training
    assert torch.equal(classifier[0].running_mean, statistics)
    assert torch.equal(targets, random_batches.targets)
    assert not logits.requires_grad
    assert torch.allclose(logits, classifier.eval()(random_batches.images), atol=1e-6)
    assert watcher.done == [("calibration", 4, 10), ("calibration", 8, 10), ("calibration", 10, 10)]
    first = collect_logits(classifier, random_batches, task="calibration", n_examples=6)
    assert torch.allclose(first.logits, logits[:6], atol=1e-6)
    assert torch.equal(first.targets, targets[:6])
    assert len(collect_logits(classifier, random_batches, task="calibration", n_examples=99).logits) == 10


def test_no_image_and_broken_weights(classifier: nn.Module, random_batches: TensorBatches) -> None:
    with pytest.raises(DataError, match=r"calibration: the part has no image"):
        collect_logits(classifier, TensorBatches(torch.zeros(0, 1, 4, 4), torch.zeros(0)), task="calibration")
    with torch.no_grad():
        classifier[3].weight.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"calibration: the logits of 10 of 10 images are not finite"):
        collect_logits(classifier, random_batches, task="calibration")
