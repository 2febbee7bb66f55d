"""Auto-PGD: projected gradient ascent that finds the length of its steps by itself."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcam.attacks.attack_requirements import LossName
from kdcam.attacks.attacked_network import (
    GradientPass,
    attack_context,
    check_budget,
    check_counts,
    gradient_pass,
    image_positions,
)
from kdcam.attacks.budget import Norm
from kdcam.attacks.norm_ball import NormBall
from kdcam.attacks.objective import AttackGoal, check_classes
from kdcam.attacks.successive_attacks import Attempt, best_of_restarts, judged_attempt

# Croce & Hein 2020, section 3: the momentum's share, the share of steps that must raise the loss, and the
# checkpoints in per cent of the steps (the first; by how much each wait is shorter than the one before; the shortest).
_ALPHA = 0.75
_RHO = 0.75
_FIRST, _SHORTER, _SHORTEST = 22, 3, 6
# Last number of the seeds of random starts: the two forms start from points of their own.
_UNTARGETED, _TARGETED = 1, 2


def apgd(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    loss: LossName = "cross_entropy",
    steps: int = 100,
    restarts: int = 1,
    seed: int = 0,
    indices: Tensor | None = None,
    stop_when_fooled: bool = True,
) -> Tensor:
    """Return adversarial images of Auto-PGD: no step length to choose.

    Steps start at twice eps and are halved, at checkpoints, for an image whose loss no longer rises; it then
    goes on from its best point.

    Args:
        model: gives logits (N, K) for images in [0, 1].
        images: (N, C, H, W) in [0, 1].
        targets: (N,) int64, the labels to get away from; or, with the cross-entropy, (N, K) float rows of 0 and 1.
        eps: largest change, per pixel (linf) or of the whole image (l2).
        norm: what eps measures.
        loss: what is raised; "dlr" needs 3 classes.
        steps: gradient steps a restart.
        restarts: tries from new random points, on the images that still stand. Of an image's tries the one
            that fools counts, else the point with the highest loss.
        seed: of the random starts.
        indices: (N,) int64, each image's position in its data set, which its random start follows from; by
            default its position in the batch.
        stop_when_fooled: True: an image drops out of the batch as soon as it is fooled by more than rounding, just over
            the network's border. False: every step is done and the point with the highest loss counts, well behind the
            border; for images that are to fool other networks, too.

    Raises ``ValueError`` for images outside [0, 1] or settings that cannot be, ``ModelError`` when the
    network lets no gradient through or has too few classes.

    Source: Croce & Hein 2020, arXiv 2003.01690, algorithm 1. The start is uniform in the ball, where the authors' code
    (fra31/auto-attack) puts it on the ball's surface.
    """
    check_budget(eps, norm)
    check_counts(steps=steps, restarts=restarts)
    positions, ball = image_positions(indices, images), NormBall(norm, eps)
    plan = _Plan(ball, steps, stop_when_fooled)
    with attack_context(model, images, targets, loss=loss) as (model, clean, goal):

        def attempt(part: Tensor, chosen: Tensor, restart: int) -> Attempt:
            seeds = [(seed, restart, positions[row], _UNTARGETED) for row in chosen.tolist()]
            return _search(model, part, goal.of(chosen), plan, seeds=seeds)

        return best_of_restarts(clean, restarts, attempt)


def apgd_targeted(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    n_target_classes: int = 9,
    steps: int = 100,
    restarts: int = 1,
    seed: int = 0,
    indices: Tensor | None = None,
    stop_when_fooled: bool = True,
) -> Tensor:
    """Return adversarial images of Auto-PGD on the targeted DLR loss, aimed at one likely class after the other.

    The classes are the label's rivals in the order of the clean image's logits. An image that ends with any wrong class
    on top is aimed at no further ones. Other arguments and errors as those of `apgd`; the targets are labels.

    Args:
        n_target_classes: so many classes are aimed at, or all others where there are fewer; it needs 4 classes.
        steps: gradient steps for each class and restart.
        restarts: tries for each class.

    Source: Croce & Hein 2020, arXiv 2003.01690, section 5 and equation 7.
    """
    check_budget(eps, norm)
    check_counts(n_target_classes=n_target_classes, steps=steps, restarts=restarts)
    if targets.ndim != 1:
        raise ValueError("targets are rows (N, K); the targeted DLR loss needs one label an image")
    positions, ball = image_positions(indices, images), NormBall(norm, eps)
    plan = _Plan(ball, steps, stop_when_fooled)
    with attack_context(model, images, targets, loss="dlr") as (model, clean, goal):
        if len(clean) == 0:
            return clean
        rivals = _rivals(model, clean, goal)

        def attempt(part: Tensor, chosen: Tensor, number: int) -> Attempt:
            aimed = goal.of(chosen)._replace(aims=rivals[chosen, number // restarts])
            seeds = [(seed, number, positions[row], _TARGETED) for row in chosen.tolist()]
            return _search(model, part, aimed, plan, seeds=seeds)

        return best_of_restarts(clean, min(n_target_classes, rivals.shape[1]) * restarts, attempt)


def _rivals(model: nn.Module, clean: Tensor, goal: AttackGoal) -> Tensor:
    """Return the other classes (N, K - 1) of each image, the likeliest first."""
    with torch.no_grad():
        logits = model(clean)
    check_classes("targeted_dlr", logits)
    goal.check(logits)
    others = logits.scatter(1, goal.targets[:, None], -torch.inf)
    order: Tensor = others.argsort(dim=1, descending=True, stable=True)
    return order[:, :-1]


class _Plan(NamedTuple):
    """What a search goes by."""

    ball: NormBall
    steps: int
    stop_when_fooled: bool


class _State(NamedTuple):
    """Where the images are that still stand; the first dimension of every tensor is theirs."""

    position: Tensor  # (n,), in the batch
    clean: Tensor
    images: Tensor
    previous: Tensor  # the images before the last step
    gradient: Tensor  # at images
    loss: Tensor  # at images
    fooled: Tensor  # (n,) bool, at images
    best: Tensor  # the images with the highest loss so far
    best_gradient: Tensor
    best_loss: Tensor
    best_fooled: Tensor
    checked_loss: Tensor  # best_loss at the last checkpoint
    step: Tensor  # (n, 1, 1, 1), length of a step
    halved: Tensor  # (n,) bool, at the last checkpoint
    rises: Tensor  # (n,), steps since then that raised the loss

    def of(self, chosen: Tensor) -> "_State":
        return _State(*(tensor[chosen] for tensor in self))


def _search(
    model: nn.Module, clean: Tensor, goal: AttackGoal, plan: _Plan, *, seeds: list[tuple[int, int, int, int]]
) -> Attempt:
    """Return each image where its loss is highest or, where it may stop so, where it is fooled for the first time."""
    ball, steps = plan.ball, plan.steps
    start = (clean + ball.random_changes(clean, seeds=seeds)).clamp(0, 1)
    waits = _checkpoints(steps)
    state = _begin(clean, start, gradient_pass(model, start, goal), goal, step=2 * ball.eps)
    found, losses, fooled = start.clone(), state.loss.clone(), state.fooled.clone()
    for number in range(steps):
        if number > 0:
            images = _moved(state, ball, share=_ALPHA if number > 1 else 1.0)
            state = _updated(state, images, gradient_pass(model, images, goal), goal)
        if plan.stop_when_fooled and bool((done := state.fooled).any()):
            out = state.position[done]
            found[out], losses[out], fooled[out] = state.images[done], state.loss[done], True
            state, goal = state.of(~done), goal.of(~done)
            if len(state.position) == 0:
                return Attempt(found, losses, fooled)
        if number in waits:
            state = _checked(state, wait=waits[number])
    # No step follows the last one: nobody would read its gradient.
    last = judged_attempt(model, _moved(state, ball, share=_ALPHA if steps > 1 else 1.0), goal)
    better = last.losses > state.best_loss
    if plan.stop_when_fooled:
        better |= last.fooled
    found[state.position] = torch.where(better[:, None, None, None], last.images, state.best)
    losses[state.position] = torch.where(better, last.losses, state.best_loss)
    fooled[state.position] = torch.where(better, last.fooled, state.best_fooled)
    return Attempt(found, losses, fooled)


def _checkpoints(steps: int) -> Mapping[int, int]:
    """Return after which steps the step length is checked, and how many steps were done since the last check."""
    waits, per_cent, wait, last = {}, _FIRST, _FIRST, 0
    while per_cent <= 100:
        number = -(-per_cent * steps // 100)  # rounded up
        if number > last:
            waits[number], last = number - last, number
        wait = max(wait - _SHORTER, _SHORTEST)
        per_cent += wait
    return waits


def _begin(clean: Tensor, start: Tensor, seen: GradientPass, goal: AttackGoal, *, step: float) -> _State:
    none = torch.zeros(len(clean), dtype=torch.bool, device=clean.device)
    fooled = goal.fooled(seen.logits)
    return _State(
        position=torch.arange(len(clean), device=clean.device),
        clean=clean,
        images=start,
        previous=start,
        gradient=seen.gradient,
        loss=seen.losses,
        fooled=fooled,
        best=start,
        best_gradient=seen.gradient,
        best_loss=seen.losses,
        best_fooled=fooled,
        checked_loss=seen.losses,
        step=torch.full((len(clean), 1, 1, 1), step, dtype=clean.dtype, device=clean.device),
        halved=none,
        rises=none.int(),
    )


def _moved(state: _State, ball: NormBall, *, share: float) -> Tensor:
    """Return the next images: a step along the gradient, mixed with the last movement."""

    def inside(images: Tensor) -> Tensor:
        return ball.project(images, state.clean).clamp_(0, 1)

    images = state.images
    ahead = inside(images + state.step * ball.direction(state.gradient))
    return inside(images + share * (ahead - images) + (1 - share) * (images - state.previous))


def _updated(state: _State, images: Tensor, seen: GradientPass, goal: AttackGoal) -> _State:
    fooled = goal.fooled(seen.logits)
    better = seen.losses > state.best_loss
    wide = better[:, None, None, None]
    return state._replace(
        images=images,
        previous=state.images,
        gradient=seen.gradient,
        loss=seen.losses,
        fooled=fooled,
        best=torch.where(wide, images, state.best),
        best_gradient=torch.where(wide, seen.gradient, state.best_gradient),
        best_loss=torch.where(better, seen.losses, state.best_loss),
        best_fooled=torch.where(better, fooled, state.best_fooled),
        rises=state.rises + (seen.losses > state.loss),
    )


def _checked(state: _State, *, wait: int) -> _State:
    """Return the state after a checkpoint: conditions 1 and 2 of the paper's section 3.2."""
    stuck = ~state.halved & (state.best_loss == state.checked_loss)
    halved = (state.rises < _RHO * wait) | stuck
    wide = halved[:, None, None, None]
    return state._replace(
        images=torch.where(wide, state.best, state.images),
        gradient=torch.where(wide, state.best_gradient, state.gradient),
        loss=torch.where(halved, state.best_loss, state.loss),
        fooled=torch.where(halved, state.best_fooled, state.fooled),
        checked_loss=state.best_loss,
        step=torch.where(wide, state.step / 2, state.step),
        halved=halved,
        rises=torch.zeros_like(state.rises),
    )


__all__ = ["apgd", "apgd_targeted"]
