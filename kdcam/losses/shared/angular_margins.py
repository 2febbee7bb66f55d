"""Angular margins: a label's cosine gives way to a harder one, in training only; what all losses of this kind share.

A logit without its bias is the length |x| |w| times the cosine of the angle between embedding and class weight. Under
every head (cosine: the length is the scale; unit-weight: |x|; linear: |x| |w|) a margin changes the label's cosine
alone. The network's own logits stay plain: evaluation, maps, distillation and attacks see no margin.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Step, present
from kdcam.models.classifier import Outputs
from kdcam.runtime.numerics import wide

Margin = Callable[[Tensor], Tensor]
"""Takes the cosines (N,) of the labels' angles and returns (N,) what stands in their place."""

AnnealGamma = Annotated[
    float, Field(ge=0, allow_inf_nan=False, description="how fast lambda falls, per training batch")
]
AnnealPower = Annotated[float, Field(ge=0, allow_inf_nan=False, description="how steeply lambda falls")]
AnnealFloor = Annotated[
    float, Field(ge=0, allow_inf_nan=False, description="least lambda; 0: the margin ends up alone")
]

_SHORTEST = 1e-12  # of a length that is divided by, as in torch.nn.functional.normalize


class LabelAngles(NamedTuple):
    """How embeddings lie to the weights of their labels."""

    lengths: Tensor  # (N,), |x| |w|
    cosines: Tensor  # (N,), in [-1, 1] up to rounding; 0 where embedding or weight is 0


def label_angles(embedding: Tensor, weight: Tensor, targets: Tensor) -> LabelAngles:
    """Return lengths and cosines: ``embedding`` (N, E), ``weight`` (K, E), ``targets`` (N,); float32 or wider.

    Gradients are finite everywhere; at a length of 0 they are 0.
    """
    one, other = wide(embedding), wide(weight[targets])
    lengths = torch.linalg.vector_norm(one, dim=1) * torch.linalg.vector_norm(other, dim=1)
    return LabelAngles(lengths, (one * other).sum(1) / lengths.clamp(min=_SHORTEST))


def margin_cross_entropy(student: Outputs, targets: Tensor, margin: Margin) -> Tensor:
    """Return the mean cross-entropy, a scalar, with length * margin(cosine) + bias as the label's logit.

    ``targets`` are (N,) class indices. The other logits are the network's own, and the label's is changed by what the
    margin changes: so it keeps its plain gradient where a length is 0 and nothing has an angle. Raises ``ValueError``
    where the outputs have no class weight.
    """
    weight = present(student.weight, "the classifier's weight")
    with torch.autocast(student.logits.device.type, enabled=False):
        lengths, cosines = label_angles(student.embedding, weight, targets)
        change = lengths * (margin(cosines) - cosines)
        logits = wide(student.logits)
        logits = logits.scatter_add(1, targets[:, None], change.to(logits.dtype)[:, None])
        return F.cross_entropy(logits, targets)


def multiplied_angle(cosines: Tensor, margin: int) -> Tensor:
    """Return psi(theta), which falls from 1 at theta = 0 to 1 - 2 margin at theta = pi, of cos(theta).

    psi = (-1)^k cos(margin theta) - 2 k on [k pi / margin, (k + 1) pi / margin]: the cosine of the multiplied angle,
    continued so that it keeps falling. ``margin`` is 1 or more; 1 returns the cosine. Source: Liu et al. 2016 (arXiv
    1612.02295), equation 6.
    """
    before, multiplied, turns = torch.ones_like(cosines), cosines, torch.zeros_like(cosines)
    # Chebyshev's recurrence, and cosines compared in place of angles: acos has no finite slope at 0 and pi.
    for k in range(1, margin):
        before, multiplied = multiplied, 2 * cosines * multiplied - before
        turns = turns + (cosines < math.cos(k * math.pi / margin))
    return (1 - 2 * (turns % 2)) * multiplied - 2 * turns


def annealed_angle(cosines: Tensor, *, margin: int, annealing: Tensor | float) -> Tensor:
    """Return (lambda cos(theta) + psi(theta)) / (1 + lambda), of cos(theta); see `multiplied_angle`.

    ``annealing`` is lambda (a number or a 0-dim tensor): 0 gives psi, a large one the plain cosine.
    """
    return (annealing * cosines + multiplied_angle(cosines, margin)) / (1 + annealing)


class Annealing(nn.Module):
    """lambda = max(floor, base (1 + gamma it)^-power), where ``it`` counts the training batches, this one included.

    The count is saved with the state; it is the same on every process, for all see as many batches. Source: the
    layers of wy1iu/LargeMargin_Softmax_Loss and wy1iu/sphereface, which count before they compute: the first is 1.
    """

    iterations: Tensor

    def __init__(self, base: float, *, gamma: float, power: float, floor: float) -> None:
        super().__init__()
        self.base, self.gamma, self.power, self.floor = base, gamma, power, floor
        self.register_buffer("iterations", torch.zeros((), dtype=torch.int64))

    def forward(self) -> Tensor:
        """Return lambda, 0-dim float32 on the buffer's device; in training mode a batch is counted first."""
        if self.training:
            self.iterations.add_(1)  # in place: compiled steps must find the same tensor
        shrunk = (1 + self.gamma * self.iterations.to(torch.float32)).pow(-self.power)
        return (self.base * shrunk).clamp(min=self.floor)


class MarginLoss(nn.Module):
    """A pure loss of the student's outputs and the labels, such as `arcface`, as a module."""

    def __init__(self, loss: Callable[[Outputs, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return self.loss(step.student, step.targets)


class AnnealedMarginLoss(nn.Module):
    """A pure loss with the keyword ``annealing``, such as `asoftmax`, with the lambda of its step."""

    def __init__(self, loss: Callable[..., Tensor], annealing: Annealing) -> None:
        super().__init__()
        self.loss, self.annealing = loss, annealing

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step, which counts as one more batch."""
        return self.loss(step.student, step.targets, annealing=self.annealing())


def check_annealing(base: float, floor: float) -> None:
    """Raise ``ValueError`` where lambda would start below its floor, so that the other keys did nothing."""
    if base < floor:
        raise ValueError(
            f"anneal_base = {base:g} lies below anneal_floor = {floor:g}, which lambda would be throughout; "
            f"lower anneal_floor to {base:g} or less, or raise anneal_base"
        )


class AnnealedMarginConfig(LossConfig):
    """The settings that losses of a multiplied angle have; their defaults are each paper's own."""

    margin: int = Field(4, ge=2, description="whole number that the label's angle is multiplied by")
    anneal_base: float = Field(
        1000.0, ge=0, allow_inf_nan=False, description="lambda before any batch; anneal_floor or more"
    )
    anneal_gamma: AnnealGamma
    anneal_power: AnnealPower
    anneal_floor: AnnealFloor

    trains_classifier: ClassVar[bool] = True

    @model_validator(mode="after")
    def _anneals(self) -> Self:
        check_annealing(self.anneal_base, self.anneal_floor)
        return self

    def annealed(self, loss: Callable[..., Tensor]) -> AnnealedMarginLoss:
        """Return a pure loss with the keywords ``margin`` and ``annealing`` as a module with these settings."""
        annealing = Annealing(
            self.anneal_base, gamma=self.anneal_gamma, power=self.anneal_power, floor=self.anneal_floor
        )
        return AnnealedMarginLoss(partial(loss, margin=self.margin), annealing)


__all__ = [
    "AnnealFloor",
    "AnnealGamma",
    "AnnealPower",
    "AnnealedMarginConfig",
    "AnnealedMarginLoss",
    "Annealing",
    "LabelAngles",
    "Margin",
    "MarginLoss",
    "annealed_angle",
    "check_annealing",
    "label_angles",
    "margin_cross_entropy",
    "multiplied_angle",
]
