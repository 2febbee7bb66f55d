"""Several tries of an attack, the later ones only on the images that still stand."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcam.attacks.objective import AttackGoal


class Attempt(NamedTuple):
    """What one try came to."""

    images: Tensor  # (N, C, H, W)
    losses: Tensor  # (N,), of these images
    fooled: Tensor  # (N,) bool


AttemptFunction = Callable[[Tensor, Tensor, int], Attempt]
"""Takes clean images, their positions (N,) in the batch, and the number of the try."""


def best_of_restarts(clean: Tensor, tries: int, attempt: AttemptFunction) -> Tensor:
    """Return of each image the try that fools, else the one with the highest loss.

    Args:
        clean: (N, C, H, W).
        tries: at most so many; those after the first work on the images that no earlier one fooled.
        attempt: makes one.
    """
    best = clean.clone()
    best_losses = torch.full((len(clean),), -torch.inf, dtype=clean.dtype, device=clean.device)
    standing = torch.arange(len(clean), device=clean.device)
    for number in range(tries):
        if len(standing) == 0:
            break
        images, losses, fooled = attempt(clean[standing], standing, number)
        better = fooled | (losses > best_losses[standing])
        best[standing[better]] = images[better]
        best_losses[standing[better]] = losses[better].to(best_losses.dtype)
        standing = standing[~fooled]
    return best


def judged_attempt(model: nn.Module, images: Tensor, goal: AttackGoal) -> Attempt:
    """Return what a try came to whose last images the network has not seen yet."""
    with torch.no_grad():
        logits = model(images)
    return Attempt(images, goal.losses(logits), goal.fooled(logits))


__all__ = ["Attempt", "AttemptFunction", "best_of_restarts", "judged_attempt"]
