"""Linear heads trained on an episode's support embeddings, those of all episodes at once.

Constants are those of Chen et al. 2019, "A Closer Look at Few-shot Classification" (arXiv 1904.04232), as in
wyharveychen/CloserLookFewShot, commit e03aca8 (methods/baselinefinetune.py, backbone.py).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from kdcam.errors import ModelError
from kdcam.evaluation.few_shot.logistic import solve_logistic
from kdcam.runtime.seeding import seeded_generator
from kdcam.settings.setting_names import key_and_flag

HEAD_WEIGHT_DECAY = 1e-3
BASELINE_EPOCHS = 100
BASELINE_BATCH = 4
BASELINE_RATE = 0.01
BASELINE_MOMENTUM = 0.9
BASELINE_DAMPENING = 0.9
COSINE_HEAD_SCALE = 2.0  # of the cosine head, for at most 200 classes
_RANK = 1e-9  # smaller eigenvalues, as shares of the largest, are rounding
_LEAST = 1e-150


class LinearHeads(NamedTuple):
    """A linear classifier for each of T episodes."""

    weight: Tensor  # (T, W, E) float64
    bias: Tensor  # (T, W) float64


def logistic_scores(support: Tensor, query: Tensor, *, weight_decay: float = HEAD_WEIGHT_DECAY) -> Tensor:
    """Return the logits (T, Q, W), float64, of queries (T, Q, E) from each episode's `logistic_heads`."""
    heads = logistic_heads(support, weight_decay=weight_decay)
    return query.double() @ heads.weight.transpose(1, 2) + heads.bias[:, None]


def logistic_heads(support: Tensor, *, weight_decay: float = HEAD_WEIGHT_DECAY) -> LinearHeads:
    """Return each episode's L2-regularised logistic regression on support (T, W, S, E).

    The minimum of ``mean cross-entropy + weight_decay / 2 |W|^2`` over the support images, the bias free:
    scikit-learn's ``LogisticRegression(C=1 / (n * weight_decay))`` of n support images. It is no published head:
    `linear_head_scores` ("Baseline") takes steps on nearly this objective and stops far from its minimum.

    Raises ``ModelError`` where the minimum is not found, as of embeddings too large for float64.
    """
    episodes, ways, shots, _ = support.shape
    # With a free bias the origin does not matter; from the mean on, weights and bias hardly act on each other.
    flat = support.flatten(1, 2).double()
    middle = flat.mean(1, keepdim=True)
    flat = flat - middle
    # The best weights lie in the span of the images: the problem is as small as their number, in its main axes.
    values, vectors = torch.linalg.eigh(flat @ flat.transpose(1, 2))
    kept = values > _RANK * values[:, -1:].clamp(min=_LEAST)
    lengths = torch.where(kept, values, 0).sqrt()
    targets = torch.arange(ways, device=support.device).repeat_interleave(shots).expand(episodes, -1)
    solved = solve_logistic(vectors * lengths[:, None], targets, num_classes=ways, weight_decay=weight_decay)
    lost = int((~solved.converged).sum())
    if lost:
        raise ModelError(
            f"few-shot.{key_and_flag('heads')}: the logistic regression of {lost} of {episodes} episodes "
            "(logistic) was not "
            "solved, as happens to very large embeddings; leave the head logistic out"
        )
    back = vectors * torch.where(kept, 1 / lengths.clamp(min=_LEAST), 0)[:, None]
    weight = (flat.transpose(1, 2) @ (back @ solved.weight)).transpose(1, 2)
    return LinearHeads(weight, solved.bias - (weight @ middle.transpose(1, 2))[..., 0])


def linear_head_scores(support: Tensor, query: Tensor, *, seeds: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the logits (T, Q, W) of each episode's linear classifier trained as published ("Baseline").

    100 epochs of SGD on the cross-entropy in batches of 4: rate 0.01, momentum 0.9, dampening 0.9, weight decay 0.001,
    of the bias as well. Arguments and draws as those of `cosine_head_scores`; the starting bias is drawn, too.
    """
    ways, shots, size = support.shape[1:]
    # A bias is the weight of a feature that is 1 in every image; here it is decayed as the others are.
    images, query = _with_ones(support.flatten(1, 2)), _with_ones(query)
    weight, orders = _baseline_draws(seeds, ways, ways * shots, size, columns=size + 1)
    images, query, weight = _in_their_span(images, query, weight.to(support))
    targets = torch.arange(ways, device=support.device).repeat_interleave(shots)
    _train_linear_heads(images, targets, orders.to(support.device), weight)
    return query @ weight.transpose(1, 2)


def _with_ones(embeddings: Tensor) -> Tensor:
    return torch.cat([embeddings, torch.ones_like(embeddings[..., :1])], -1)


def _train_linear_heads(images: Tensor, targets: Tensor, orders: Tensor, weight: Tensor) -> None:
    """Train weights (T, W, E), in place, on embeddings (T, n, E) with labels (n,)."""
    optimizer = _optimizer([weight])
    wanted = one_hot(targets, weight.shape[1]).to(images)
    rows = torch.arange(len(images), device=images.device)[:, None]
    for order in orders.unbind(1):
        for batch in order.split(BASELINE_BATCH, dim=1):
            seen = images[rows, batch]
            wrong = (seen @ weight.transpose(1, 2)).softmax(2) - wanted[batch]
            weight.grad = wrong.transpose(1, 2) @ seen / batch.shape[1]
            optimizer.step()


def cosine_head_scores(support: Tensor, query: Tensor, *, seeds: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the logits (T, Q, W) of each episode's cosine classifier ("Baseline++").

    The logit of class j is ``2 g_j cos(w_j, x)``, direction w_j and length g_j both learned (weight normalisation, as
    in the released code), by 100 epochs of SGD in batches of 4: rate 0.01, momentum 0.9, dampening 0.9, weight decay
    0.001. Starting weights and the order of the images are drawn for each episode from its own seed, so that an
    episode's result depends on no other.

    Args:
        support: (T, W, S, E), T episodes of W classes with S images each.
        query: (T, Q, E).
        seeds: T seeds, each of one or more whole numbers.
    """
    ways, shots, size = support.shape[1:]
    images, query = normalize(support.flatten(1, 2), dim=2), normalize(query, dim=2)
    direction, orders = _baseline_draws(seeds, ways, ways * shots, size, columns=size)
    images, query, direction = _in_their_span(images, query, direction.to(support))
    length = torch.linalg.vector_norm(direction, dim=2, keepdim=True)
    targets = torch.arange(ways, device=support.device).repeat_interleave(shots)
    _train_cosine_heads(images, targets, orders.to(support.device), direction, length)
    return _cosine_logits(query, normalize(direction, dim=2), length)


def _in_their_span(images: Tensor, query: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return images, queries and starting weights (T, ..., E) in fewer dimensions where there are.

    No step leads out of the span of the images and the starting weights: turned into it, all is smaller.
    """
    if images.shape[1] + weight.shape[1] >= images.shape[2]:
        return images, query, weight
    basis = torch.linalg.qr(torch.cat([images, weight], 1).transpose(1, 2)).Q
    return images @ basis, query @ basis, weight @ basis


def _optimizer(parameters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        parameters,
        lr=BASELINE_RATE,
        momentum=BASELINE_MOMENTUM,
        dampening=BASELINE_DAMPENING,
        weight_decay=HEAD_WEIGHT_DECAY,
    )


def _train_cosine_heads(
    images: Tensor, targets: Tensor, orders: Tensor, direction: Tensor, length: Tensor
) -> None:
    """Train directions (T, W, E) and lengths (T, W, 1), in place, on unit embeddings (T, n, E) with labels (n,)."""
    optimizer = _optimizer([direction, length])
    wanted = one_hot(targets, direction.shape[1]).to(images)
    rows = torch.arange(len(images), device=images.device)[:, None]
    for order in orders.unbind(1):
        for batch in order.split(BASELINE_BATCH, dim=1):
            seen = images[rows, batch]
            norm = torch.linalg.vector_norm(direction, dim=2, keepdim=True)
            unit = direction / norm
            wrong = _cosine_logits(seen, unit, length).softmax(2) - wanted[batch]
            # By hand, at a third of autograd's time: of length * unit, and through the division by the norm.
            pull = COSINE_HEAD_SCALE / batch.shape[1] * wrong.transpose(1, 2) @ seen
            along = (pull * unit).sum(2, keepdim=True)
            direction.grad = length / norm * (pull - along * unit)
            length.grad = along
            optimizer.step()


def _cosine_logits(images: Tensor, unit: Tensor, length: Tensor) -> Tensor:
    return images @ (COSINE_HEAD_SCALE * length * unit).transpose(1, 2)


def _baseline_draws(
    seeds: Sequence[tuple[int, ...]], ways: int, images: int, size: int, *, columns: int
) -> tuple[Tensor, Tensor]:
    """Return starting weights (T, W, ``columns``), as torch draws those of a linear layer of ``size`` inputs and its
    bias, and orders (T, EPOCHS, n) of images."""
    weights, orders = [], []
    for seed in seeds:
        generator = seeded_generator(*seed)
        weights.append(torch.rand(ways, columns, generator=generator))
        orders.append(torch.rand(BASELINE_EPOCHS, images, generator=generator).argsort(dim=1, stable=True))
    return (2 * torch.stack(weights) - 1) / size**0.5, torch.stack(orders)


__all__ = ["LinearHeads", "cosine_head_scores", "linear_head_scores", "logistic_heads", "logistic_scores"]
