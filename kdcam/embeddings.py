"""Embeddings of a part of the data, and how many directions they use."""

import torch
from torch import Tensor

from kdcam.data.batches import Batches
from kdcam.models.classifier import Classifier
from kdcam.modes import evaluating


def embeddings_of(classifier: Classifier, batches: Batches) -> Tensor:
    """Return the embeddings (N, E) of all batches in eval mode, on the CPU; modes are put back afterwards."""
    with evaluating(classifier), torch.no_grad():
        return torch.cat([classifier.outputs(batch.images).embedding.cpu() for batch in batches.epoch(0)])


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


__all__ = ["effective_rank", "embeddings_of"]
