import torch
from tensor_batches import TensorBatches

from kdcam.data.batches.batch import Batch, ChangedBatches, Views, draw_views


def test_each_batch_is_changed_and_their_number_stays() -> None:
    found = TensorBatches(torch.arange(5.0)[:, None, None, None], torch.arange(5), batch_size=2)

    def doubled(batch: Batch) -> Batch:
        return batch._replace(images=2 * batch.images)

    changed = ChangedBatches(found, doubled)
    assert (changed.num_images, len(changed)) == (5, 3)
    assert [batch.images.flatten().tolist() for batch in changed.epoch(0)] == [[0, 2], [4, 6], [8]]
    (last,) = changed.epoch(0, 2)
    assert (last.images.flatten().tolist(), last.targets.tolist()) == ([8], [4])


def draw(**changes: int) -> list[int]:
    settings = {"seed": 0, "epoch": 0, "number": 0} | changes
    return draw_views(Views(4, 9), 1000, **settings).tolist()


def test_every_view_is_drawn_about_as_often() -> None:
    counts = torch.bincount(torch.tensor(draw()))
    assert len(counts) == 4
    assert counts.min() > 200


def test_seed_epoch_and_batch_number_decide_and_the_global_generator_stays() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    found = [draw(), draw(seed=1), draw(epoch=1), draw(number=1)]
    assert draw() == found[0]
    assert len(set(map(tuple, found))) == 4
    assert torch.equal(before, torch.get_rng_state())
