"""Embeddings of length 1 of face pictures, each picture found once."""

from pathlib import Path

import numpy
from numpy.typing import NDArray

from kdcam.data.batches.batch import Batches
from kdcam.errors import Interrupted
from kdcam.models.classifier import Classifier
from kdcam.runtime.progress import Progress
from kdcam.scores.embeddings import feature_table


def unit_embeddings(
    classifier: Classifier, batches: Batches, *, flip: bool, place: Path, progress: Progress
) -> NDArray[numpy.float64]:
    """Return the embeddings (D, E) of all batches, each of length 1; one of nothing but zeros stays so.

    Eval mode, without gradient, in float32; divided by the length in float64.

    Args:
        classifier: Whose embeddings: what its last linear layer reads.
        batches: Evaluation batches on its device.
        flip: Add the embedding of the mirrored picture before dividing by the length.
        place: Names the run in messages.
        progress: Who watches.

    Raises ``DataError`` where a picture cannot be read, ``ModelError`` where an embedding is not finite,
    ``Interrupted`` where the watcher asks to stop.
    """
    try:
        table = feature_table(classifier, batches, flip=flip, task=f"{place}: embeddings", progress=progress)
    except Interrupted as stop:
        raise Interrupted(
            "the verification was stopped; nothing was written, the same command starts it over"
        ) from stop
    embeddings = table.embeddings.double().numpy()
    lengths = numpy.linalg.norm(embeddings, axis=1, keepdims=True)
    unit: NDArray[numpy.float64] = embeddings / numpy.where(lengths > 0, lengths, 1)
    return unit


__all__ = ["unit_embeddings"]
