import torch
from tensor_batches import TensorBatches

from kdcam.data.batches.batch import Batch, ChangedBatches


def test_each_batch_is_changed_and_their_number_stays() -> None:
    found = TensorBatches(torch.arange(5.0)[:, None, None, None], torch.arange(5), batch_size=2)

    def doubled(batch: Batch) -> Batch:
        return batch._replace(images=2 * batch.images)

    changed = ChangedBatches(found, doubled)
    assert (changed.num_images, len(changed)) == (5, 3)
    assert [batch.images.flatten().tolist() for batch in changed.epoch(0)] == [[0, 2], [4, 6], [8]]
    (last,) = changed.epoch(0, 2)
    assert (last.images.flatten().tolist(), last.targets.tolist()) == ([8], [4])
