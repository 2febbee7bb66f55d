"""Multinomial logistic regression on features that are computed once: the linear probe, solved to its minimum."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.errors import TrainingError

# All kdcam's choice.
_TOLERANCES = {torch.float64: 1e-7, torch.float32: 1e-5}  # of the scaled gradient's largest entry
_LEAST_CHANGE = {torch.float64: 0.0, torch.float32: 1e-9}  # of the objective; below it all is rounding
_STEPS = 2000
_HISTORY = 10  # of the gradients that L-BFGS remembers


class LogisticFit(NamedTuple):
    """A linear classifier of features: ``logits = features @ weight.T + bias``."""

    weight: Tensor  # (K, E)
    bias: Tensor  # (K,)
    inverse_penalty: float  # scikit-learn's C
    loss: float  # mean cross-entropy of the features it was fitted to, in nats, without the penalty
    steps: int  # of L-BFGS


def fit_logistic(
    features: Tensor, targets: Tensor, num_classes: int, *, inverse_penalty: float = 1.0
) -> LogisticFit:
    """Return the minimum of ``sum of cross-entropies + |W|^2 / (2 C)`` over classifiers of standardised features.

    C is the inverse penalty, W the weights. This is the objective of scikit-learn's
    ``make_pipeline(StandardScaler(), LogisticRegression(C=C))``: each feature minus its mean over its standard
    deviation, the bias without penalty. Mean and deviation are folded into weight and bias, so that the result reads
    the features as they are; a feature that never changes has no weight.

    Args:
        features: (N, E), float32 or float64, on any device; the work is done in its precision.
        targets: (N,) int64 labels.
        num_classes: K, 2 or more; a class may be without features.
        inverse_penalty: C, above 0; the smaller, the smaller the weights.

    Raises:
        TrainingError: a feature is not finite, or the minimum was not reached.
    """
    return next(fit_logistic_path(features, targets, num_classes, inverse_penalties=[inverse_penalty]))


def fit_logistic_path(
    features: Tensor, targets: Tensor, num_classes: int, *, inverse_penalties: Sequence[float]
) -> Iterator[LogisticFit]:
    """Yield the fit of `fit_logistic` for each inverse penalty, each search begun where the one before ended.

    L-BFGS (Liu and Nocedal 1989) on all features at once, along their main axes, each scaled by its curvature: a few
    dozen steps. Rising inverse penalties are the quicker order.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; allowed: 2 or more")
    if any(not penalty > 0 for penalty in inverse_penalties):
        raise ValueError(f"inverse_penalties are {list(inverse_penalties)}; allowed: numbers above 0")
    axes = _main_axes(features)
    start = torch.zeros(num_classes, len(axes.variances) + 1).to(axes.features)
    for inverse_penalty in inverse_penalties:
        decay = 1 / (inverse_penalty * len(targets))
        scales = _scales(axes.variances, num_classes, decay)
        start, steps = _minimum(_Problem(axes.features, targets[:, None], decay, scales), start)
        weight, bias = start[:, :-1], start[:, -1]
        loss = _cross_entropy(axes.features, targets, weight, bias)
        of_features = weight @ axes.basis.T / axes.deviation
        yield LogisticFit(of_features, bias - of_features @ axes.mean, inverse_penalty, loss, steps)


class _Axes(NamedTuple):
    """Standardised features in their main axes: no solution has a weight outside these."""

    features: Tensor  # (N, R), R at most min(N, E)
    variances: Tensor  # (R,) of these, above 0
    basis: Tensor  # (E, R), orthonormal columns
    mean: Tensor  # (E,)
    deviation: Tensor  # (E,); 1 where a feature never changes


def _main_axes(features: Tensor) -> _Axes:
    if not bool(torch.isfinite(features).all()):
        raise TrainingError(
            "linear probe: a feature is not a finite number; start from a checkpoint that was not broken in training"
        )
    images, size = features.shape
    mean = features.double().mean(0).to(features.dtype)
    centred = features - mean
    deviation = centred.square().mean(0, dtype=torch.float64).sqrt().to(features.dtype)
    # Equal values may differ from their rounded mean.
    constant = deviation <= 10 * torch.finfo(features.dtype).eps * mean.abs()
    deviation = torch.where(constant, 1, deviation)
    centred = torch.where(constant, 0, centred) / deviation
    if images < size:
        variances, vectors = torch.linalg.eigh((centred @ centred.T / images).double())
    else:
        variances, vectors = torch.linalg.eigh((centred.T @ centred / images).double())
    kept = variances > max(images, size) * torch.finfo(features.dtype).eps * variances[-1].clamp(min=0)
    variances, vectors = variances[kept], vectors[:, kept]
    if images < size:
        vectors = centred.T.double() @ vectors / (images * variances).sqrt()
    basis = vectors.to(features.dtype)
    return _Axes(centred @ basis, variances.to(features.dtype), basis, mean, deviation)


class _Problem(NamedTuple):
    """One objective: mean cross-entropy + ``decay`` / 2 |W|^2, of weights (K, R) along the main axes and biases.

    They are given together as (K, R + 1), divided by ``scales``.
    """

    features: Tensor  # (N, R)
    targets: Tensor  # (N, 1)
    decay: float
    scales: Tensor  # (R + 1,)

    def value_and_gradient(self, scaled: Tensor) -> tuple[float, Tensor]:
        """Return both at scaled weights and biases (K, R + 1)."""
        weight, bias = (scaled * self.scales).split([len(self.scales) - 1, 1], 1)
        logs = _log_probabilities(self.features, weight, bias[:, 0])
        value = _mean_loss(logs, self.targets) + 0.5 * self.decay * float(weight.double().square().sum())
        # By hand and in place: autograd keeps several (N, K) at once.
        wrong = logs.exp_()
        wrong.scatter_add_(1, self.targets, wrong.new_full(self.targets.shape, -1.0))
        wrong /= len(wrong)
        gradient = torch.cat([wrong.T @ self.features + self.decay * weight, wrong.sum(0)[:, None]], 1)
        return value, gradient * self.scales

    def in_float64(self) -> "_Problem":
        """Return the same problem in float64."""
        return self._replace(features=self.features.double(), scales=self.scales.double())


def _scales(variances: Tensor, num_classes: int, decay: float) -> Tensor:
    """Return how far to step along each axis (R,) and for the bias, (R + 1,): curvature is then the same along all.

    At weights of 0 each class has the probability 1 / K, and the second derivative along an axis is about its variance
    / K + decay (Boehning 1992, "Multinomial logistic regression algorithm").
    """
    bias = variances.new_full((1,), 1 / num_classes)
    return torch.cat([variances / num_classes + decay, bias]).rsqrt()


def _minimum(problem: _Problem, start: Tensor) -> tuple[Tensor, int]:
    """Return the best weights and biases (K, R + 1), found from ``start`` on, and the number of steps."""
    tolerance = _TOLERANCES[start.dtype]
    scaled, steps, left = _search(problem, start / problem.scales, tolerance)
    if left > tolerance and start.dtype == torch.float32:
        # Of few images, say, where rounding hides the last of the decrease.
        scaled, more, left = _search(problem.in_float64(), scaled.double(), tolerance)
        steps += more
    if not left <= tolerance:
        raise TrainingError(
            f"linear probe: the minimum was not reached in {steps} steps (a gradient of {left:.1e} is left); take a "
            f"smaller inverse penalty than {1 / (problem.decay * len(problem.targets)):g}"
        )
    return scaled.to(start.dtype) * problem.scales, steps


def _search(problem: _Problem, start: Tensor, tolerance: float) -> tuple[Tensor, int, float]:
    """Return where L-BFGS ends, after how many steps, and the largest entry of the gradient there."""
    scaled = start.clone()
    search = torch.optim.LBFGS(
        [scaled],
        max_iter=_STEPS,
        max_eval=2 * _STEPS,
        history_size=_HISTORY,
        tolerance_grad=tolerance,
        tolerance_change=_LEAST_CHANGE[start.dtype],
        line_search_fn="strong_wolfe",
    )

    def objective() -> float:
        value, scaled.grad = problem.value_and_gradient(scaled)
        return value

    search.step(objective)
    _, gradient = problem.value_and_gradient(scaled)
    return scaled, int(search.state[scaled]["n_iter"]), float(gradient.abs().max())


def _cross_entropy(features: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> float:
    return _mean_loss(_log_probabilities(features, weight, bias), targets[:, None])


def _log_probabilities(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.addmm(bias, features, weight.T).log_softmax(1)


def _mean_loss(log_probabilities: Tensor, targets: Tensor) -> float:
    # In float64: at the end of a search the decrease is below what float32 tells apart.
    return -float(log_probabilities.gather(1, targets).mean(dtype=torch.float64))


__all__ = ["LogisticFit", "fit_logistic", "fit_logistic_path"]
