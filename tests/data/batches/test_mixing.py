import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup

from kdcam.data.batches.augmentation import Mixing
from kdcam.data.batches.batch import Batch


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
