"""AutoAttack as the package pyautoattack has it (extra kdcam[autoattack])."""

import logging

import torch
from torch import Tensor, nn

from kdcam.attacks.attack_requirements import MISSING_AUTOATTACK
from kdcam.attacks.attacked_network import attack_context, check_budget
from kdcam.attacks.budget import Norm
from kdcam.attacks.objective import check_classes
from kdcam.errors import RecipeError


def auto_attack(
    model: nn.Module, images: Tensor, targets: Tensor, *, eps: float, norm: Norm = "linf", seed: int = 0
) -> Tensor:
    """Return adversarial images of AutoAttack's standard version: apgd-ce, apgd-t, fab-t and square.

    Below 10 classes fewer are aimed at. Random choices follow from (seed, batch), not from the image alone.

    Args:
        model: gives logits (N, K) for images in [0, 1], K at least 4.
        images: (N, C, H, W) in [0, 1].
        targets: (N,) int64, the labels to get away from.
        eps: largest change, per pixel (linf) or of the whole image (l2).
        norm: what eps measures.
        seed: of the random choices.

    Raises ``RecipeError`` where the package is missing, else as `kdcam.attacks.apgd_targeted`.

    Source: Croce & Hein 2020, arXiv 2003.01690.
    """
    check_budget(eps, norm)
    try:
        from pyautoattack import AutoAttack  # lazy: an extra
    except ModuleNotFoundError as error:
        raise RecipeError(MISSING_AUTOATTACK) from error
    with attack_context(model, images, targets, loss="margin") as (model, clean, goal):
        if len(clean) == 0:
            return clean
        with torch.no_grad():
            logits = model(clean[:1])
        check_classes("targeted_dlr", logits)
        goal.check(logits)
        attack = AutoAttack(
            model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, seed=seed, device=clean.device
        )
        attack.verbose = False
        rivals = min(9, logits.shape[1] - 1)
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = rivals
        # It warns of masking by a logger of its own; kdcam's checks do, and the library prints nothing.
        attack.logger = attack.apgd.logger = attack.apgd_targeted.logger = _silent()
        found: Tensor = attack.run_standard_evaluation(clean, goal.targets, batch_size=len(clean))[0]
        return found


def _silent() -> logging.Logger:
    logger = logging.Logger("autoattack")  # not in logging's tree: nobody else's level moves
    logger.addHandler(logging.NullHandler())
    return logger


__all__ = ["auto_attack"]
