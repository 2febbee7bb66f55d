"""The network under attack: checked arguments, eval mode, float32, gradients, counted passes; nothing left behind."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcam.attacks.attack_requirements import LossName
from kdcam.attacks.objective import ATTACK_LOSSES, AttackGoal
from kdcam.errors import ModelError
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.numerics import MEND_WEIGHTS, broken_rows, wide


@contextmanager
def attack_context(
    model: nn.Module, images: Tensor, targets: Tensor, *, loss: LossName = "cross_entropy"
) -> Iterator[tuple[nn.Module, Tensor, AttackGoal]]:
    """Yield the network, images that gradients can be taken of and what is raised; put everything back afterwards.

    Raises ``ValueError`` where they are no batch of images in [0, 1] with their labels, or the loss does not
    go with them. How many classes there are shows at the first logits: the goal refuses labels beyond the last.
    At the end ``ModelError`` where the logits of an image, or its gradient, were not finite at any step: there is
    nothing to climb, and what was made is no attack.
    """
    _check_batch(images, targets)
    last_label = _last_label(targets)
    _check_loss(loss, targets)
    device = images.device
    checked = _FiniteCheckedNetwork(model, len(images), device)
    with attack_mode(model, device), torch.inference_mode(False), torch.enable_grad():
        # Leaving inference mode is not enough for its tensors: only their copies can enter autograd.
        yield checked, wide(images.detach().clone()), AttackGoal(loss, targets.clone(), last_label=last_label)
    checked.require_finite()


@contextmanager
def attack_mode(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Put a network into eval mode and float32 while it is attacked; it and torch's random state are put back."""
    rng = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with eval_mode(network), rng, torch.autocast(device.type, enabled=False):
        yield


class _FiniteCheckedNetwork(nn.Module):
    """A network that counts its images whose logits or gradients are not finite, on their device, which is asked once,
    at the end.

    It gives what the network gives, on the same weights.
    """

    def __init__(self, network: nn.Module, images: int, device: torch.device) -> None:
        super().__init__()
        self.network = network
        self.training = False  # as the network is while it is attacked
        self.images = images
        self.logits, self.gradients = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, C, H, W)."""
        logits: Tensor = self.network(images)
        # The most at one step count, since an image comes again at the next.
        self.logits = torch.maximum(self.logits, broken_rows(logits).sum())
        if images.requires_grad:
            images.register_hook(self._check_gradient)
        return logits

    def _check_gradient(self, gradient: Tensor) -> None:
        self.gradients = torch.maximum(self.gradients, broken_rows(gradient).sum())

    def require_finite(self) -> None:
        """Raise ``ModelError`` where anything was not finite."""
        for what, count in (("logits", int(self.logits)), ("gradients on the pixels", int(self.gradients))):
            if count:
                raise ModelError(
                    f"attack: the {what} of {count} of {self.images} images are not finite (NaN or infinite), so there "
                    f"is nothing to climb; {MEND_WEIGHTS}"
                )


def image_positions(indices: Tensor | None, images: Tensor) -> list[int]:
    """Return each image's position in its data set, which its random choices follow from; by default in the batch."""
    if indices is None:
        return list(range(len(images)))
    if indices.shape != (len(images),):
        raise ValueError(f"indices have shape {tuple(indices.shape)}; wanted one an image, ({len(images)},)")
    numbers: list[int] = indices.tolist()
    return numbers


def check_budget(eps: float, norm: str) -> None:
    """Raise ``ValueError`` for a budget that cannot be."""
    if norm not in ("linf", "l2"):
        raise ValueError(f"norm is {norm!r}; wanted 'linf' or 'l2'")
    if not (math.isfinite(eps) and eps >= 0) or (norm == "linf" and eps > 1):
        raise ValueError(f"eps is {eps}; wanted [0, 1] pixel units, such as 8/255 (linf) or 0.5 (l2)")


def check_counts(**counts: int) -> None:
    """Raise ``ValueError`` where one of the numbers of steps, restarts ... is below 1."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; wanted at least 1")


def _check_loss(loss: str, targets: Tensor) -> None:
    if loss not in ATTACK_LOSSES:
        raise ValueError(f"loss is {loss!r}; wanted one of {', '.join(ATTACK_LOSSES)}")
    if targets.ndim != 1 and loss != "cross_entropy":
        raise ValueError(
            f"loss is {loss!r} where targets are rows (N, K); it needs one label an image: take 'cross_entropy'"
        )


def _last_label(targets: Tensor) -> int:
    """Return the largest label, -1 for rows and for none; ``ValueError`` for a label below 0."""
    if targets.ndim != 1 or len(targets) == 0:
        return -1
    first, last = (int(end) for end in torch.aminmax(targets))
    if first < 0:
        raise ValueError(f"targets hold the label {first}; wanted labels from 0 on")
    return last


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
    if images.numel() == 0:
        return
    low, high = (float(end) for end in torch.aminmax(images))
    if not 0 <= low <= high <= 1:  # NaN is neither
        raise ValueError(
            f"images span {low:.4g} to {high:.4g}; wanted [0, 1]: attacks "
            "work on pixels, so put the normalisation into the network (kdcam's Classifier has it inside)"
        )


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


class CountedClassifier(nn.Module):
    """A classifier that counts the images it sees and those whose gradient is taken, whatever the attack.

    It gives what the classifier gives, on the same weights.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.forwards = 0  # images
        self.backwards = 0  # images
        self.training = classifier.training  # train() would unfreeze a BatchNorm that was frozen on purpose

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, C, H, W)."""
        count = len(images)
        self.forwards += count
        logits: Tensor = self.classifier(images)
        if logits.requires_grad:
            logits.register_hook(lambda _: self._add_backwards(count))
        return logits

    def _add_backwards(self, images: int) -> None:
        self.backwards += images


__all__ = [
    "CountedClassifier",
    "GradientPass",
    "attack_context",
    "attack_mode",
    "check_budget",
    "check_counts",
    "gradient_pass",
    "image_positions",
    "input_gradient",
]
