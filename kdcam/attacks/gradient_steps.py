"""Gradient ascent by steps of a given length: fgsm, bim, pgd, mim, cw_margin, and that of adversarial training."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdcam.attacks.attack_requirements import LossName
from kdcam.attacks.attacked_network import (
    attack_context,
    check_budget,
    check_counts,
    gradient_pass,
    image_positions,
)
from kdcam.attacks.budget import Norm
from kdcam.attacks.norm_ball import NormBall
from kdcam.attacks.objective import AttackGoal
from kdcam.attacks.successive_attacks import Attempt, best_of_restarts, judged_attempt


def fgsm(model: nn.Module, images: Tensor, targets: Tensor, *, eps: float, norm: Norm = "linf") -> Tensor:
    """Return adversarial images made by one gradient step of length ``eps``.

    Args:
        model: gives logits (N, K) for images in [0, 1].
        images: (N, C, H, W) in [0, 1].
        targets: (N,) int64, the labels to get away from; or (N, K) float rows of 0 and 1, several labels an image.
        eps: largest change, per pixel (linf) or of the whole image (l2).
        norm: what eps measures.

    Raises ``ValueError`` for images outside [0, 1] or settings that cannot be, ``ModelError`` when the
    network lets no gradient through; so do all attacks.

    Source: Goodfellow et al. 2015, arXiv 1412.6572.
    """
    return bim(model, images, targets, eps=eps, alpha=eps, steps=1, norm=norm)


def bim(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    eps: float,
    alpha: float,
    steps: int,
    norm: Norm = "linf",
    stop_when_fooled: bool = False,
) -> Tensor:
    """Return adversarial images made by ``steps`` gradient steps of length ``alpha`` from the clean ones.

    Arguments and errors as those of `pgd`. Source: Kurakin et al. 2017, arXiv 1607.02533.
    """
    return pgd(
        model,
        images,
        targets,
        eps=eps,
        alpha=alpha,
        steps=steps,
        norm=norm,
        random_start=False,
        stop_when_fooled=stop_when_fooled,
    )


def pgd(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    eps: float,
    alpha: float,
    steps: int,
    norm: Norm = "linf",
    restarts: int = 1,
    random_start: bool = True,
    seed: int = 0,
    indices: Tensor | None = None,
    loss: LossName = "cross_entropy",
    stop_when_fooled: bool = False,
) -> Tensor:
    """Return adversarial images made by projected gradient steps from random points of the ball.

    Other arguments and errors as those of `fgsm`.

    Args:
        alpha: length of a step.
        steps: gradient steps a restart.
        restarts: tries from new random points; those after the first attack only images that are still right (of
            rows: in any of their decisions). Of an image's tries the one that fools counts, else the one with
            the highest loss.
        random_start: False: start at the clean image, as `bim` does.
        seed: of the random starts.
        indices: (N,) int64, each image's position in its data set, which its random start follows from; by
            default its position in the batch.
        loss: what is raised; rows take the cross-entropy only. "dlr" needs 3 classes (``ModelError``).
        stop_when_fooled: True: an image that a step finds fooled, by more than rounding, is kept as it is there and
            drops out of the batch. The same network, start and steps then fool the same images or more, with fewer
            passes. False: the paper's result, the image after the last step.

    Source: Madry et al. 2018, arXiv 1706.06083.
    """
    check_budget(eps, norm)
    _check_steps(eps, alpha=alpha, steps=steps)
    if restarts < 1 or (restarts > 1 and not random_start):
        raise ValueError(
            f"restarts is {restarts}; wanted 1, or more with random_start=True (else all are the same)"
        )
    ball = NormBall(norm, eps)
    positions = image_positions(indices, images)

    def moved(clean: Tensor, goal: AttackGoal, chosen: Tensor, restart: int) -> Tensor:
        start = clean
        if random_start:
            seeds = [(seed, restart, positions[row]) for row in chosen.tolist()]
            start = (clean + ball.random_changes(clean, seeds=seeds)).clamp(0, 1)
        return _ascend(
            model, clean, start, goal, ball=ball, alpha=alpha, steps=steps, stop_when_fooled=stop_when_fooled
        )

    with attack_context(model, images, targets, loss=loss) as (model, clean, goal):
        if restarts == 1:
            return moved(clean, goal, torch.arange(len(clean)), 0)

        def attempt(part: Tensor, chosen: Tensor, restart: int) -> Attempt:
            left = goal.of(chosen)
            return judged_attempt(model, moved(part, left, chosen, restart), left)

        return best_of_restarts(clean, restarts, attempt)


def cw_margin(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    eps: float,
    alpha: float,
    steps: int,
    norm: Norm = "linf",
    restarts: int = 1,
    random_start: bool = True,
    seed: int = 0,
    indices: Tensor | None = None,
    stop_when_fooled: bool = False,
) -> Tensor:
    """Return adversarial images of `pgd` on the margin loss: the largest other logit minus the label's.

    Its gradient does not vanish where the network is very sure. Arguments and errors as those of `pgd`; the
    targets are labels.

    Source: the loss f6 of Carlini & Wagner 2017, arXiv 1608.04644, in the place of the cross-entropy as in
    Madry et al. 2018, arXiv 1706.06083, section 5 (kappa = 0: kdcam's choice).
    """
    return pgd(
        model,
        images,
        targets,
        eps=eps,
        alpha=alpha,
        steps=steps,
        norm=norm,
        restarts=restarts,
        random_start=random_start,
        seed=seed,
        indices=indices,
        loss="margin",
        stop_when_fooled=stop_when_fooled,
    )


def mim(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    eps: float,
    alpha: float,
    steps: int,
    decay: float = 1.0,
    norm: Norm = "linf",
    stop_when_fooled: bool = False,
) -> Tensor:
    """Return adversarial images made by steps along a running sum of gradients (momentum iterative method).

    Other arguments and errors as those of `pgd`.

    Args:
        alpha: length of a step.
        steps: gradient steps.
        decay: of the sum; 0: `bim`.

    Source: Dong et al. 2018, arXiv 1710.06081; an image's zero gradient adds nothing instead of NaN.
    """
    check_budget(eps, norm)
    _check_steps(eps, alpha=alpha, steps=steps)
    if not (math.isfinite(decay) and decay >= 0):
        raise ValueError(f"decay is {decay}; wanted 0 or more")
    with attack_context(model, images, targets) as (model, clean, goal):
        return _ascend(
            model,
            clean,
            clean,
            goal,
            ball=NormBall(norm, eps),
            alpha=alpha,
            steps=steps,
            stop_when_fooled=stop_when_fooled,
            decay=decay,
        )


def _ascend(
    model: nn.Module,
    clean: Tensor,
    start: Tensor,
    goal: AttackGoal,
    *,
    ball: NormBall,
    alpha: float,
    steps: int,
    stop_when_fooled: bool,
    decay: float | None = None,
) -> Tensor:
    """Return images after ``steps`` steps from ``start``; decay None: each step follows its own gradient."""
    images, found = start, start.clone() if stop_when_fooled else start
    standing = torch.arange(len(clean), device=clean.device)
    velocity: Tensor | None = None
    for _ in range(steps):
        if len(standing) == 0:
            break
        logits, _, gradient = gradient_pass(model, images, goal)
        if stop_when_fooled and bool((fooled := goal.fooled(logits)).any()):
            found[standing[fooled]] = images[fooled]
            left = ~fooled
            standing, images, clean = standing[left], images[left], clean[left]
            velocity = None if velocity is None else velocity[left]
            gradient, goal = gradient[left], goal.of(left)
        if decay is not None:
            size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
            gradient = gradient / size.masked_fill(size == 0, 1.0)
            gradient = velocity = gradient if velocity is None else decay * velocity + gradient
        images = ball.project(images.add(ball.direction(gradient), alpha=alpha), clean).clamp_(0, 1)
    if len(standing) == len(found):
        return images
    found[standing] = images
    return found


def _check_steps(eps: float, *, alpha: float, steps: int) -> None:
    if not (math.isfinite(alpha) and alpha >= 0) or (alpha == 0 and eps > 0):
        raise ValueError(f"alpha is {alpha}; wanted a length above 0 in [0, 1] pixel units, such as 2/255")
    check_counts(steps=steps)


def ascend_loss(
    loss: Callable[[Tensor], Tensor],
    clean: Tensor,
    start: Tensor,
    *,
    ball: NormBall,
    alpha: float,
    steps: int,
) -> Tensor:
    """Return images (N, C, H, W) in [0, 1] after ``steps`` steps of length ``alpha`` up the gradient of ``loss``.

    Args:
        loss: gives a scalar of images, summed over them, so that an image's gradient does not depend on how many
            others there are.
        clean: the images around which the ball lies.
        start: where to begin, in the ball and in [0, 1].
        ball: is not left.
        alpha: in [0, 1] pixel units.
        steps: at least 1.

    Source: projected gradient descent, Madry et al. 2018, arXiv 1706.06083, section 2.1.
    """
    images = start
    for _ in range(steps):
        images = images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(images), images)
        moved = images.detach() + alpha * ball.direction(gradient)
        images = ball.project(moved, clean).clamp_(0, 1)
    return images


__all__ = ["ascend_loss", "bim", "cw_margin", "fgsm", "mim", "pgd"]
