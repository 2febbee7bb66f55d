"""The logits of a part's first images, for the scores that need them all at once."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcam.data.batches.batch import Batches
from kdcam.errors import DataError
from kdcam.evaluation.robustness.evaluated_images import unchecked_logits
from kdcam.evaluation.robustness.stopping import stop_with_results_kept
from kdcam.runtime.numerics import FiniteCheck
from kdcam.runtime.progress import Progress, Silent


class LabelledLogits(NamedTuple):
    """What a classifier says of images, on the CPU."""

    logits: Tensor  # (N, K) float32
    targets: Tensor  # (N,) int64, or (N, K) float rows of several labels


def collect_logits(
    classifier: nn.Module,
    batches: Batches,
    *,
    task: str,
    n_examples: int | None = None,
    progress: Progress | None = None,
) -> LabelledLogits:
    """Return the logits and labels of a part, in its order; modes and random state stay as they were.

    Args:
        classifier: gives logits (N, K) for images in [0, 1].
        batches: evaluation batches on the classifier's device.
        task: what the work is called where its progress is shown.
        n_examples: the first so many images, or all where there are fewer or it is None.
        progress: who watches.

    Raises ``DataError`` where there is no image, ``ModelError`` where logits are not finite, naming of how many images,
    ``Interrupted`` where the watcher asks to stop.
    """
    watcher = progress or Silent()
    wanted = batches.num_images if n_examples is None else min(n_examples, batches.num_images)
    if wanted < 1:
        raise DataError(f"{task}: the part has no image to look at; choose another part")
    rows: list[tuple[Tensor, Tensor]] = []
    done, finite = 0, FiniteCheck()
    for batch in batches.epoch(0):
        stop_with_results_kept(watcher)
        images, targets = batch.images[: wanted - done], batch.targets[: wanted - done]
        logits = unchecked_logits(classifier, images)
        finite.take(logits)
        rows.append((logits.cpu(), targets.cpu()))
        done += len(images)
        watcher.advance(task, done, wanted)
        if done == wanted:
            break
    finite.require(task)
    logits, labels = (torch.cat(tensors) for tensors in zip(*rows, strict=True))
    return LabelledLogits(logits, labels)


__all__ = ["LabelledLogits", "collect_logits"]
