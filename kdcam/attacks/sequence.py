"""Attacks in turn, each on the images that the ones before did not fool."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kdcam.attacks.attack_settings import StandardStage
from kdcam.attacks.attacked_network import attack_context
from kdcam.attacks.objective import is_fooled


def attacks_in_turn(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    indices: Tensor,
    stages: Callable[[int], Sequence[StandardStage]],
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


__all__ = ["attacks_in_turn"]
