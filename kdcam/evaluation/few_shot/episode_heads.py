"""The heads by name: what each makes of episodes' support embeddings, and how many queries it classifies correctly."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from kdcam.data.batches.episodes import Episodes
from kdcam.errors import Interrupted, ModelError
from kdcam.evaluation.few_shot.few_shot_schema import FewShotHead
from kdcam.runtime.progress import Progress, Silent
from kdcam.runtime.seeding import seeded_generator
from kdcam.settings.validation import key_and_flag

# Those of Chen et al. 2019, "A Closer Look at Few-shot Classification" (arXiv 1904.04232), in
# wyharveychen/CloserLookFewShot, commit e03aca8 (methods/baselinefinetune.py, backbone.py).
HEAD_WEIGHT_DECAY = 1e-3
BASELINE_EPOCHS = 100
BASELINE_BATCH = 4
BASELINE_RATE = 0.01
BASELINE_MOMENTUM = 0.9
BASELINE_DAMPENING = 0.9
COSINE_HEAD_SCALE = 2.0  # of the cosine head, for at most 200 classes

_RANK = 1e-9  # smaller eigenvalues, as shares of the largest, are rounding
_LEAST = 1e-150

# Of the solver of the logistic head; all kdcam's choice.
_TOLERANCE = 1e-7  # of the largest entry of the gradient
_NEWTON_STEPS = 100
_CONJUGATE_STEPS = 100
_HALVINGS = 30
_SUFFICIENT = 1e-4  # of the decrease that the slope promises

_NUMBERS_AT_ONCE = 2**20  # of embeddings gathered at a time: 4 MiB, about what a processor's cache holds


class EpisodeFeatures(NamedTuple):
    """The embeddings of T episodes of W classes."""

    support: Tensor  # (T, W, S, E)
    query: Tensor  # (T, Q, E)
    first: int  # the first one's number among all episodes
    seed: int  # for heads that draw

    @property
    def seeds(self) -> list[tuple[int, int]]:
        """One for each episode, which depends on no other."""
        return [(self.seed, number) for number in range(self.first, self.first + len(self.support))]


class LinearHeads(NamedTuple):
    """A linear classifier for each of T episodes."""

    weight: Tensor  # (T, W, E) float64
    bias: Tensor  # (T, W) float64


class LogisticHeads(NamedTuple):
    """One linear classifier for each problem."""

    weight: Tensor  # (T, D, K) float64
    bias: Tensor  # (T, K) float64
    converged: Tensor  # (T,) bool


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


# Why each head is trained as it is: docs/decisions/019.
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
    bias, and orders (T, BASELINE_EPOCHS, n) of images."""
    weights, orders = [], []
    for seed in seeds:
        generator = seeded_generator(*seed)
        weights.append(torch.rand(ways, columns, generator=generator))
        orders.append(torch.rand(BASELINE_EPOCHS, images, generator=generator).argsort(dim=1, stable=True))
    return (2 * torch.stack(weights) - 1) / size**0.5, torch.stack(orders)


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
    spanned = values > _RANK * values[:, -1:].clamp(min=_LEAST)
    lengths = torch.where(spanned, values, 0).sqrt()
    targets = torch.arange(ways, device=support.device).repeat_interleave(shots).expand(episodes, -1)
    solved = solve_logistic(vectors * lengths[:, None], targets, num_classes=ways, weight_decay=weight_decay)
    lost = int((~solved.converged).sum())
    if lost:
        raise ModelError(
            f"few-shot.{key_and_flag('heads')}: the logistic regression of {lost} of {episodes} episodes (logistic) "
            "was not solved, as happens to very large embeddings; leave the head logistic out"
        )
    back = vectors * torch.where(spanned, 1 / lengths.clamp(min=_LEAST), 0)[:, None]
    weight = (flat.transpose(1, 2) @ (back @ solved.weight)).transpose(1, 2)
    return LinearHeads(weight, solved.bias - (weight @ middle.transpose(1, 2))[..., 0])


def solve_logistic(
    features: Tensor, targets: Tensor, *, num_classes: int, weight_decay: float
) -> LogisticHeads:
    """Return the minima of ``mean cross-entropy + weight_decay / 2 |W|^2``, the bias free, of T problems.

    Newton's method with steps by conjugate gradients, preconditioned by the curvature's diagonal, and halved until
    they lead far enough down (Nocedal and Wright 2006, "Numerical Optimization", algorithm 7.1).

    Args:
        features: (T, n, D) float64; columns that are orthogonal make it fast.
        targets: (T, n) int64.
        num_classes: K.
        weight_decay: Above 0.
    """
    problems, images, size = features.shape
    inputs = torch.cat([features, features.new_ones(problems, images, 1)], 2)  # the last column: the bias
    decay = torch.cat([features.new_full((size,), weight_decay), features.new_zeros(1)])[:, None]
    one = _LogisticProblems(inputs, one_hot(targets, num_classes).to(features), decay)
    weight = features.new_zeros(problems, size + 1, num_classes)
    for _ in range(_NEWTON_STEPS):
        shares = (inputs @ weight).softmax(2)
        gradient = one.gradient(weight, shares)
        error = gradient.abs().amax((1, 2))
        if bool((error <= _TOLERANCE).all()):
            break
        move = _newton_step(one, shares, gradient, error)
        weight = weight + _step_length(one, weight, move, gradient) * move
    return LogisticHeads(weight[:, :-1], weight[:, -1], error <= _TOLERANCE)


class _LogisticProblems(NamedTuple):
    inputs: Tensor  # (T, n, D + 1)
    wanted: Tensor  # (T, n, K) of 0 and 1
    decay: Tensor  # (D + 1, 1)

    def value(self, weight: Tensor) -> Tensor:
        logs = (self.inputs @ weight).log_softmax(2)
        penalty = 0.5 * (self.decay * weight.square()).sum((1, 2), keepdim=True)
        return penalty - (self.wanted * logs).sum((1, 2), keepdim=True) / self.inputs.shape[1]

    def gradient(self, weight: Tensor, shares: Tensor) -> Tensor:
        wrong = (shares - self.wanted) / self.inputs.shape[1]
        return self.inputs.transpose(1, 2) @ wrong + self.decay * weight

    def curved(self, move: Tensor, shares: Tensor) -> Tensor:
        """Return the product of the second derivative and a direction."""
        along = self.inputs @ move
        bent = shares * (along - (shares * along).sum(2, keepdim=True)) / self.inputs.shape[1]
        return self.inputs.transpose(1, 2) @ bent + self.decay * move

    def diagonal(self, shares: Tensor) -> Tensor:
        spread = shares * (1 - shares) / self.inputs.shape[1]
        return self.inputs.square().transpose(1, 2) @ spread + self.decay


def _newton_step(one: _LogisticProblems, shares: Tensor, gradient: Tensor, error: Tensor) -> Tensor:
    """Return where conjugate gradients lead to from 0; problems that are solved stay where they are."""
    diagonal = one.diagonal(shares).clamp(min=1e-30)
    # Exacter near the minimum, where a full step then gains as many digits again.
    wanted = error.sqrt().clamp(max=0.1)[:, None, None] * _length(gradient)
    move, residual = torch.zeros_like(gradient), -gradient
    scaled = residual / diagonal
    direction, product = scaled, _dot(residual, scaled)
    active = (error > _TOLERANCE)[:, None, None]
    for _ in range(_CONJUGATE_STEPS):
        curved = one.curved(direction, shares)
        curvature = _dot(direction, curved)
        active = active & (curvature > 0)
        step = torch.where(active, product / curvature, 0.0)
        move, residual = move + step * direction, residual - step * curved
        active = active & (_length(residual) > wanted)
        if not bool(active.any()):
            break
        scaled = residual / diagonal
        following = _dot(residual, scaled)
        direction = scaled + torch.where(active, following / product, 0.0) * direction
        product = following
    return move


def _step_length(one: _LogisticProblems, weight: Tensor, move: Tensor, gradient: Tensor) -> Tensor:
    """Return for each problem the first of 1, 1/2, 1/4 ... that leads far enough down, (T, 1, 1)."""
    value, slope = one.value(weight), _dot(gradient, move)
    length = torch.ones_like(value)
    # Near the minimum the decrease is lost in rounding.
    slack = 1e-13 * value.abs()
    for _ in range(_HALVINGS):
        short = one.value(weight + length * move) > value + _SUFFICIENT * length * slope + slack
        if not bool(short.any()):
            break
        length = torch.where(short, length / 2, length)
    return length


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((1, 2), keepdim=True)


def _length(one: Tensor) -> Tensor:
    return _dot(one, one).sqrt()


HEADS: Mapping[FewShotHead, Callable[[EpisodeFeatures], Tensor]] = {
    "prototype": lambda episodes: euclidean_scores(episodes.support, episodes.query),
    "cosine-prototype": lambda episodes: cosine_scores(episodes.support, episodes.query),
    "logistic": lambda episodes: logistic_scores(episodes.support, episodes.query),
    "baseline": lambda episodes: linear_head_scores(episodes.support, episodes.query, seeds=episodes.seeds),
    "baseline++": lambda episodes: cosine_head_scores(episodes.support, episodes.query, seeds=episodes.seeds),
}
"""Each gives scores (T, Q, W): the largest tells the class."""


def correct_queries(
    embeddings: Tensor,
    episodes: Episodes,
    head: FewShotHead,
    *,
    seed: int = 0,
    task: str = "episodes",
    progress: Progress | None = None,
) -> Tensor:
    """Return how many of each episode's queries a head classifies correctly, (T,) int64 from 0 to ways * queries.

    Args:
        embeddings: (N, E) float32 of the images that the episodes are of.
        episodes: Which images.
        head: What is made of an episode's support images.
        seed: For heads that draw their starting weights; with an episode's number it decides its draw.
        task: What the watcher is told this is.
        progress: Who watches.

    Raises ``Interrupted`` where the watcher asks to stop.
    """
    watcher = progress or Silent()
    scores = HEADS[head]
    labels = query_labels(episodes)
    total, images = len(episodes.classes), episodes.support.shape[1] + episodes.query.shape[1]
    at_once = max(1, _NUMBERS_AT_ONCE // (images * embeddings.shape[1]))
    right = torch.empty(total, dtype=torch.int64)
    with torch.no_grad():
        for start in range(0, total, at_once):
            stop_few_shot_if_asked(watcher)
            some = slice(start, min(start + at_once, total))
            features = _gathered(embeddings, episodes, some, seed)
            right[some] = (scores(features).argmax(2) == labels).sum(1)
            watcher.advance(task, some.stop, total)
    return right


def query_labels(episodes: Episodes) -> Tensor:
    """Return which of an episode's classes each query is of, (ways * queries,) int64, the same in all episodes."""
    return torch.arange(episodes.ways).repeat_interleave(episodes.queries)


def stop_few_shot_if_asked(progress: Progress) -> None:
    """Raise ``Interrupted`` where the watcher asks to stop."""
    if progress.should_stop():
        raise Interrupted(
            "the few-shot evaluation was stopped; nothing was written, the same command starts it over"
        )


def _gathered(embeddings: Tensor, episodes: Episodes, some: slice, seed: int) -> EpisodeFeatures:
    support = _rows(embeddings, episodes.support[some]).unflatten(1, (episodes.ways, episodes.shots))
    return EpisodeFeatures(support, _rows(embeddings, episodes.query[some]), some.start, seed)


def _rows(embeddings: Tensor, positions: Tensor) -> Tensor:
    # At two thirds of the time that embeddings[positions] takes.
    rows = embeddings.index_select(0, positions.flatten())
    return rows.view(*positions.shape, -1)


__all__ = [
    "HEADS",
    "EpisodeFeatures",
    "LinearHeads",
    "LogisticHeads",
    "correct_queries",
    "cosine_head_scores",
    "cosine_scores",
    "euclidean_scores",
    "linear_head_scores",
    "logistic_heads",
    "logistic_scores",
    "query_labels",
    "solve_logistic",
    "stop_few_shot_if_asked",
]
