"""How much of the wrong labels in its training part a classifier has memorised."""

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from kdcam.data.batches import Batches
from kdcam.errors import DataError
from kdcam.modes import evaluating
from kdcam.progress import Progress, Silent


class Memorisation(BaseModel):
    """What a classifier predicts for training images, apart for those that were given a wrong label."""

    model_config = ConfigDict(frozen=True)

    images: int
    wrong_labels: int
    memorised: (
        float | None
    )  # share of the wrongly labelled predicted as their wrong label; None: there are none
    recovered: float | None  # share of the wrongly labelled predicted as their true label
    clean_label_acc: float | None  # accuracy on the rightly labelled; None: there are none


def memorisation(
    classifier: nn.Module,
    batches: Batches,
    clean_targets: Tensor,
    noisy_targets: Tensor,
    *,
    progress: Progress | None = None,
) -> Memorisation:
    """Return how much of the wrong labels a classifier predicts.

    Args:
        classifier: gives logits (N, K) for images in [0, 1].
        batches: the training part in evaluation order, not augmented.
        clean_targets: (N,) int64, the true labels by position in the training part.
        noisy_targets: (N,) int64, the labels that it was trained on.
        progress: who watches.

    Raises ``DataError`` when the labels do not belong to these images.
    """
    progress = progress or Silent()
    clean, noisy = clean_targets.cpu(), noisy_targets.cpu()
    if not clean.shape == noisy.shape == (batches.num_images,):
        raise DataError(
            f"found {batches.num_images} training images, {tuple(clean.shape)} true and {tuple(noisy.shape)} "
            "noisy labels; the labels stored with a run belong to its own data and split"
        )
    predicted = torch.full_like(clean, -1)
    done = 0
    with evaluating(classifier), torch.no_grad():
        for batch in batches.epoch(0):
            predicted[batch.indices.cpu()] = classifier(batch.images).argmax(1).cpu()
            done += len(batch.indices)
            progress.advance("memorisation", done, batches.num_images)
    wrong = clean != noisy
    return Memorisation(
        images=len(clean),
        wrong_labels=int(wrong.sum()),
        memorised=_share((predicted == noisy)[wrong]),
        recovered=_share((predicted == clean)[wrong]),
        clean_label_acc=_share((predicted == clean)[~wrong]),
    )


def _share(hits: Tensor) -> float | None:
    return float(hits.double().mean()) if len(hits) else None


__all__ = ["Memorisation", "memorisation"]
