"""One pass through the network: logits, losses and the gradient on the pixels."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcam.attacks.attacked_network import attack_context
from kdcam.attacks.objective import AttackGoal
from kdcam.errors import ModelError


class GradientPass(NamedTuple):
    """What a forward and a backward pass tell of images."""

    logits: Tensor  # (N, K)
    losses: Tensor  # (N,)
    gradient: Tensor  # (N, C, H, W), of each image's loss with respect to its pixels


def gradient_pass(model: nn.Module, images: Tensor, goal: AttackGoal) -> GradientPass:
    """Return logits, losses and gradients of images; ``ModelError`` where the network lets no gradient through."""
    images = images.detach().requires_grad_()
    logits = model(images)
    losses = goal.losses(logits)
    # Summed, not averaged: an image's gradient does not depend on how many others there are.
    loss = losses.sum()
    found = torch.autograd.grad(loss, images, allow_unused=True) if loss.requires_grad else (None,)
    gradient: Tensor | None = found[0]
    if gradient is None:
        raise ModelError(
            "the network's output carries no gradient to its input, so gradient attacks cannot work; attack the "
            "network itself, not a version that runs under no_grad, outside torch or on pixels turned into whole "
            "numbers, or take square, which needs no gradient"
        )
    return GradientPass(logits.detach(), losses.detach(), gradient)


def input_gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient (N, C, H, W) of each image's cross-entropy with respect to its pixels.

    Arguments and errors as those of `kdcam.attacks.fgsm`.
    """
    with attack_context(model, images, targets) as (model, clean, goal):
        return gradient_pass(model, clean, goal).gradient


__all__ = ["GradientPass", "gradient_pass", "input_gradient"]
