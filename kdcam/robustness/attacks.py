"""Gradient attacks on a classifier that takes images in [0, 1].

Every attack raises the cross-entropy of the given labels (of rows: the binary cross-entropy summed over the
classes) and returns images in [0, 1] within ``eps`` of the clean ones; eps and alpha are in [0, 1] pixel units
(8/255, not 8), whatever normalisation the network does inside.
Attacks compute in float32 without autocast, put the network into eval mode and each submodule back
into its own mode, leave no gradient on parameters and no trace in torch's random state, and work under
``no_grad`` and ``inference_mode``. The loss is summed, not averaged, and random starts follow from (seed,
index of the image): what becomes of an image does not depend on the rest of its batch.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from kdcam.errors import ModelError
from kdcam.modes import evaluating
from kdcam.robustness.balls import Ball
from kdcam.robustness.config import Norm
from kdcam.robustness.objective import attack_loss, is_fooled

Accumulate = Callable[[Tensor], Tensor]


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
) -> Tensor:
    """Return adversarial images made by ``steps`` gradient steps of length ``alpha`` from the clean ones.

    Arguments and errors as those of `fgsm`. Source: Kurakin et al. 2017, arXiv 1607.02533.
    """
    return pgd(model, images, targets, eps=eps, alpha=alpha, steps=steps, norm=norm, random_start=False)


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

    Source: Madry et al. 2018, arXiv 1706.06083.
    """
    _check_settings(eps, norm, alpha=alpha, steps=steps)
    if restarts < 1 or (restarts > 1 and not random_start):
        raise ValueError(
            f"restarts is {restarts}; wanted 1, or more with random_start=True (else all are the same)"
        )
    ball = Ball(norm, eps)
    indices = torch.arange(len(images)) if indices is None else indices.cpu()

    def attempt(clean: Tensor, labels: Tensor, chosen: Tensor, restart: int) -> Tensor:
        start = clean
        if random_start:
            seeds = [(seed, restart, index) for index in indices[chosen.cpu()].tolist()]
            start = (clean + ball.random_changes(clean, seeds=seeds)).clamp(0, 1)
        return _ascend(model, clean, start, labels, ball=ball, alpha=alpha, steps=steps, accumulate=_as_it_is)

    with _attacking(model, images, targets) as (clean, labels):
        return _best_of(model, clean, labels, restarts, attempt)


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
) -> Tensor:
    """Return adversarial images made by steps along a running sum of gradients (momentum iterative method).

    Other arguments and errors as those of `bim`.

    Args:
        alpha: length of a step.
        steps: gradient steps.
        decay: of the sum; 0: `bim`.

    Source: Dong et al. 2018, arXiv 1710.06081; an image's zero gradient adds nothing instead of NaN.
    """
    _check_settings(eps, norm, alpha=alpha, steps=steps)
    if not (math.isfinite(decay) and decay >= 0):
        raise ValueError(f"decay is {decay}; wanted 0 or more")
    with _attacking(model, images, targets) as (clean, labels):
        velocity = torch.zeros_like(clean)

        def accumulate(gradient: Tensor) -> Tensor:
            size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
            velocity.mul_(decay).add_(gradient / size.masked_fill(size == 0, 1.0))
            return velocity

        return _ascend(
            model, clean, clean, labels, ball=Ball(norm, eps), alpha=alpha, steps=steps, accumulate=accumulate
        )


def input_gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient (N, C, H, W) of each image's loss with respect to its pixels."""
    with _attacking(model, images, targets) as (clean, labels):
        return _gradient(model, clean, labels)


@contextmanager
def _attacking(model: nn.Module, images: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images and labels that gradients can be taken of; put everything back afterwards."""
    _check_batch(images, targets)
    device = images.device
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        stack.enter_context(torch.autocast(device.type, enabled=False))
        # Leaving inference mode is not enough for its tensors: only their copies can enter autograd.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        wide = torch.promote_types(images.dtype, torch.float32)
        yield images.detach().clone().to(wide), targets.clone()


def _ascend(
    model: nn.Module,
    clean: Tensor,
    start: Tensor,
    labels: Tensor,
    *,
    ball: Ball,
    alpha: float,
    steps: int,
    accumulate: Accumulate,
) -> Tensor:
    images = start
    if len(images) == 0:
        return images
    for _ in range(steps):
        gradient = accumulate(_gradient(model, images, labels))
        images = images + alpha * ball.direction(gradient)
        images = ball.project(images, clean).clamp(0, 1)
    return images


def _as_it_is(gradient: Tensor) -> Tensor:
    return gradient


def _gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    loss = attack_loss(model(images), labels, reduction="sum")
    if not loss.requires_grad:
        raise ModelError(
            "the network's output carries no gradient to its input, so gradient attacks cannot work; "
            "attack the network itself, not a version that runs under no_grad or outside torch"
        )
    (gradient,) = torch.autograd.grad(loss, images)
    return gradient


def _best_of(
    model: nn.Module,
    clean: Tensor,
    labels: Tensor,
    restarts: int,
    attempt: Callable[[Tensor, Tensor, Tensor, int], Tensor],
) -> Tensor:
    still_right = torch.arange(len(clean), device=clean.device)
    if restarts == 1:
        return attempt(clean, labels, still_right, 0)
    best = clean.clone()
    best_loss = torch.full((len(clean),), -torch.inf, dtype=clean.dtype, device=clean.device)
    for restart in range(restarts):
        if len(still_right) == 0:
            break
        found = attempt(clean[still_right], labels[still_right], still_right, restart)
        with torch.no_grad():
            logits = model(found)
        loss = attack_loss(logits, labels[still_right], reduction="none")
        fooled = is_fooled(logits, labels[still_right])
        better = fooled | (loss > best_loss[still_right])
        best[still_right[better]] = found[better]
        best_loss[still_right[better]] = loss[better].to(best_loss.dtype)
        still_right = still_right[~fooled]
    return best


def _check_settings(eps: float, norm: str, *, alpha: float, steps: int) -> None:
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm is {norm!r}; wanted 'linf' or 'l2'")
    if not (math.isfinite(eps) and eps >= 0) or (norm == "linf" and eps > 1):
        raise ValueError(f"eps is {eps}; wanted [0, 1] pixel units, such as 8/255 (linf) or 0.5 (l2)")
    if not (math.isfinite(alpha) and alpha >= 0) or (alpha == 0 and eps > 0):
        raise ValueError(f"alpha is {alpha}; wanted a length above 0 in [0, 1] pixel units, such as 2/255")
    if steps < 1:
        raise ValueError(f"steps is {steps}; wanted at least 1")


def _check_batch(images: Tensor, targets: Tensor) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; wanted floats (N, C, H, W)"
        )
    labels = targets.ndim == 1 and not targets.is_floating_point()
    rows = targets.ndim == 2 and targets.is_floating_point()
    if targets.shape[:1] != (len(images),) or not (labels or rows):
        raise ValueError(
            f"targets are {targets.dtype} of shape {tuple(targets.shape)}; wanted one integer label an image, "
            "or a row of floats (N, K)"
        )
    if rows and not bool(((targets == 0) | (targets == 1)).all()):
        raise ValueError(
            "targets: rows hold other numbers than 0 and 1; wanted 1 for each class that is there"
        )
    if len(images) and not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError(
            f"images span {float(images.min()):.4g} to {float(images.max()):.4g}; wanted [0, 1]: attacks "
            "work on pixels, so put the normalisation into the network (kdcam's Classifier has it inside)"
        )


__all__ = ["bim", "fgsm", "input_gradient", "mim", "pgd"]
