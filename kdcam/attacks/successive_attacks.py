"""Restarts of an attack and attacks in turn: the later ones only on the images that still stand."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from kdcam.attacks.attacked_network import attack_context
from kdcam.attacks.objective import AttackGoal, is_fooled


class Perturbation(Protocol):
    """An attack with its settings."""

    def perturb(self, model: nn.Module, images: Tensor, targets: Tensor, indices: Tensor, /) -> Tensor:
        """Return adversarial images (N, C, H, W) in [0, 1]."""


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


def attacks_in_turn(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    indices: Tensor,
    stages: Callable[[int], Sequence[Perturbation]],
) -> Tensor:
    """Return of each image what the first stage made that fools, else what the last one made.

    Args:
        model: gives logits (N, K) for images in [0, 1].
        images: (N, C, H, W) in [0, 1].
        targets: (N,) int64 labels.
        indices: (N,) int64, each image's position in its data set.
        stages: of so many classes K.
    """
    with attack_context(model, images, targets, loss="margin") as (model, clean, goal), torch.no_grad():
        if len(clean) == 0:
            return clean
        labels = goal.targets
        found = clean.clone()
        standing = torch.arange(len(clean), device=clean.device)
        for stage in stages(model(clean[:1]).shape[1]):
            chosen = indices[standing.to(indices.device)]
            made = stage.perturb(model, clean[standing], labels[standing], chosen)
            found[standing] = made
            standing = standing[~is_fooled(model(made), labels[standing])]
            if len(standing) == 0:
                break
    return found


__all__ = [
    "Attempt",
    "AttemptFunction",
    "Perturbation",
    "attacks_in_turn",
    "best_of_restarts",
    "judged_attempt",
]
