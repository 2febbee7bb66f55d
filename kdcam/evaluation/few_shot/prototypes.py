"""Nearest prototype: a query is of the class whose mean support embedding is nearest to it; all episodes at once."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def euclidean_scores(support: Tensor, query: Tensor) -> Tensor:
    """Return minus the squared euclidean distance to each class's mean, (T, Q, W), up to what all classes share.

    ``|query|^2`` is left out, so the largest score is the nearest prototype. Snell, Swersky and Zemel 2017,
    "Prototypical Networks" (arXiv 1703.05175), equation 1 and 2.

    Args:
        support: (T, W, S, E), T episodes of W classes with S images each.
        query: (T, Q, E).
    """
    prototypes = support.mean(2)
    # From the middle of the prototypes on, which changes no difference of distances, what is subtracted is small. The
    # queries, most of the data, stay as they are: a copy of them would double the time.
    middle = prototypes.mean(1, keepdim=True)
    prototypes = prototypes - middle
    shift = (prototypes * middle).sum(2) + 0.5 * prototypes.square().sum(2)
    return torch.baddbmm(shift[:, None], query, prototypes.transpose(1, 2), beta=-2, alpha=2)


def cosine_scores(support: Tensor, query: Tensor) -> Tensor:
    """Return the cosine to each class's mean direction, (T, Q, W) in [-1, 1].

    The mean is that of embeddings of length 1, as in Gidaris and Komodakis 2018, "Dynamic Few-Shot Visual Learning
    without Forgetting" (arXiv 1804.09458). An embedding of 0 has the cosine 0 to all.

    Args:
        support: (T, W, S, E), T episodes of W classes with S images each.
        query: (T, Q, E).
    """
    prototypes = normalize(normalize(support, dim=3).mean(2), dim=2)
    return normalize(query, dim=2) @ prototypes.transpose(1, 2)


__all__ = ["cosine_scores", "euclidean_scores"]
