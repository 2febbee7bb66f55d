"""Mixup and CutMix of a batch, by timm."""

from typing import Any

import torch
import torch.nn.functional as F

from kdcam.data.batches.batch import Batch


class Mixing:
    """Mixup and CutMix with one mixing ratio a batch; labels become rows (N, K).

    timm draws from numpy's global generator, which is why a resumable state holds it.
    """

    def __init__(self, *, mixup: float, cutmix: float, num_classes: int) -> None:
        from timm.data.mixup import Mixup

        self.num_classes = num_classes
        self.mix: Any = Mixup(
            mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=0.0, num_classes=num_classes
        )

    def __call__(self, batch: Batch) -> Batch:
        """Return the mixed batch; timm pairs images, so the last of an odd number stays as it is."""
        even = len(batch.targets) // 2 * 2
        images, rows = self.mix(batch.images[:even].clone(), batch.targets[:even])
        alone = F.one_hot(batch.targets[even:], self.num_classes).to(rows.dtype)
        return Batch(torch.cat([images, batch.images[even:]]), torch.cat([rows, alone]), batch.indices)


__all__ = ["Mixing"]
