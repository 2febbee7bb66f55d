"""Many small logistic regressions solved at once: one for each few-shot episode."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

# All kdcam's choice.
_TOLERANCE = 1e-7  # of the largest entry of the gradient
_NEWTON_STEPS = 100
_CONJUGATE_STEPS = 100
_HALVINGS = 30
_SUFFICIENT = 1e-4  # of the decrease that the slope promises


class LogisticHeads(NamedTuple):
    """One linear classifier for each problem."""

    weight: Tensor  # (T, D, K) float64
    bias: Tensor  # (T, K) float64
    converged: Tensor  # (T,) bool


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


__all__ = ["LogisticHeads", "solve_logistic"]
