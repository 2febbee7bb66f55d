"""Embeddings of a part of the data with their labels, and how many directions they use."""

from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.batch import Batches
from kdcam.errors import DataError, Interrupted
from kdcam.models.classifier import Classifier
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.numerics import FiniteCheck
from kdcam.runtime.progress import Progress, Silent


class FeatureTable(NamedTuple):
    """What a classifier reads of each image of a part, and the image's label; both on the CPU."""

    embeddings: Tensor  # (N, E) float32
    targets: Tensor  # (N,) int64, or (N, K) float rows of several labels


def feature_table(
    classifier: Classifier,
    batches: Batches,
    *,
    flip: bool = False,
    task: str = "features",
    progress: Progress | None = None,
) -> FeatureTable:
    """Return embeddings and labels of all batches, in order, each image seen once; modes are put back afterwards.

    Eval mode (BatchNorm with its kept statistics, so that an image's row does not depend on its batch), without
    gradient, in float32. With a head that reads directions alone (cosine) the embeddings have length 1.

    Args:
        classifier: Whose embeddings: what its last linear layer reads.
        batches: Evaluation batches on its device.
        flip: Add the embedding of each mirrored image.
        task: What the watcher is told this is; errors begin with it.
        progress: Who watches.

    Raises ``DataError`` where there is no image, or a picture can no longer be read; ``ModelError`` where embeddings
    are not finite, naming of how many images; ``Interrupted`` where the watcher asks to stop.
    """
    watcher = progress or Silent()
    embeddings, targets, finite = list[Tensor](), list[Tensor](), FiniteCheck("embeddings")
    device = classifier.mean.device.type
    with eval_mode(classifier), torch.no_grad(), torch.autocast(device, enabled=False):
        for done, batch in enumerate(batches.epoch(0), start=1):
            if watcher.should_stop():
                raise Interrupted(f"{task}: stopped, nothing was written")
            embedding = classifier.outputs(batch.images).embedding.float()
            if flip:
                embedding = embedding + classifier.outputs(batch.images.flip(-1)).embedding.float()
            finite.take(embedding)
            embeddings.append(embedding.cpu())
            targets.append(batch.targets.cpu())
            watcher.advance(task, done, len(batches))
    if not embeddings:
        raise DataError("the part whose features are wanted has no image; choose another part")
    finite.require(task)
    return FeatureTable(torch.cat(embeddings), torch.cat(targets))


def effective_rank(embeddings: Tensor) -> float:
    """Return how many directions embeddings (N, E) spread over: 1 when all lie on a line, at most E.

    The exponential of the entropy of the centred embeddings' squared singular values, normalised to sum to 1
    (Roy and Vetterli 2007, "The effective rank", with squares, so that shares of variance are counted). Embeddings
    without any spread give 1.
    """
    centred = (embeddings - embeddings.mean(0)).double()
    energy = torch.linalg.svdvals(centred).square()
    if float(energy.sum()) == 0:
        return 1.0
    shares = energy / energy.sum()
    return float(torch.special.entr(shares).sum().exp())


__all__ = ["FeatureTable", "effective_rank", "feature_table"]
