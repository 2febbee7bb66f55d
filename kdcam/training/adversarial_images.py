"""Adversarial images for training: made anew at each step against the student as it stands there."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdcam.attacks.attacked_network import attack_mode
from kdcam.attacks.gradient_steps import ascend_loss
from kdcam.attacks.norm_ball import NormBall, random_ball_points
from kdcam.attacks.objective import attack_loss
from kdcam.data.batches.batch import Batch
from kdcam.models.classifier import Classifier, Outputs, Task, TeacherOutputs
from kdcam.recipe.adversary_settings import AdversaryConfig
from kdcam.runtime.numerics import wide

_SEED_TAG = 0x41445653  # tells the numbers of random starts from those of other draws of the same step

ForwardOutputs = Callable[[Tensor], Outputs]
"""Gives a network's outputs of images (N, C, H, W) in [0, 1]."""


# How images are crafted, and what the teacher sees: docs/decisions/016.
@dataclass(frozen=True)
class Adversary:
    """The attack of a run: its settings, and the seed that its random starts follow from."""

    config: AdversaryConfig
    task: Task
    seed: int

    def craft(
        self,
        student: Classifier,
        outputs_of: ForwardOutputs,
        batch: Batch,
        teacher_outputs: Sequence[TeacherOutputs],
        *,
        epoch: int,
        step: int,
    ) -> Tensor:
        """Return the adversarial images (N, C, H, W) in [0, 1] of a batch of clean ones.

        The student is attacked in eval mode and in float32, and is left as it was: modes, gradients, torch's random
        state.

        Args:
            student: is attacked.
            outputs_of: gives its outputs; compiled or not.
            batch: clean images with labels or rows.
            teacher_outputs: what each teacher says of the clean images; read with maximise = "kl_to_teacher" alone.
            epoch: with the seed and the step it decides the random starts.
            step: within the epoch.
        """
        config, ball = self.config, NormBall(self.config.norm, self.config.eps)
        with attack_mode(student, batch.images.device), _without_gradients(student):
            start = batch.images
            if config.random_start:
                start = random_ball_points(batch.images, ball, numbers=(self.seed, epoch, step, _SEED_TAG))
            loss = self._loss(outputs_of, batch, teacher_outputs)
            return ascend_loss(
                lambda images: loss(outputs_of(images).logits),
                batch.images,
                start,
                ball=ball,
                alpha=config.alpha,
                steps=config.steps,
            )

    def _loss(
        self, outputs_of: ForwardOutputs, batch: Batch, teacher_outputs: Sequence[TeacherOutputs]
    ) -> Callable[[Tensor], Tensor]:
        """Return what is raised, as a function of the logits."""
        if self.config.maximise == "cross_entropy":
            if self.task == "single-label":  # labels or mixed rows
                return lambda logits: F.cross_entropy(logits, batch.targets, reduction="sum")
            return lambda logits: attack_loss(logits, batch.targets, reduction="sum")
        if self.config.maximise == "kl_to_clean":
            with torch.no_grad():
                probabilities = wide(outputs_of(batch.images).logits).softmax(1)
        else:
            probabilities = mean_teacher_probabilities(teacher_outputs)
        return lambda logits: divergence_from(logits, probabilities)


def divergence_from(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Return KL(probabilities || softmax(logits)), summed over the images; both are (N, K)."""
    return F.kl_div(F.log_softmax(wide(logits), dim=1), probabilities, reduction="sum")


def mean_teacher_probabilities(teacher_outputs: Sequence[TeacherOutputs]) -> Tensor:
    """Return the mean of the teachers' predictions (N, K); the divergence from it has the mean one's gradient."""
    said = [wide(teacher.logits).softmax(1) for teacher in teacher_outputs if teacher.logits is not None]
    if not said or len(said) < len(teacher_outputs):
        raise ValueError(
            f"{len(said)} of {len(teacher_outputs)} teachers gave logits; the attack reads those of each"
        )
    return torch.stack(said).mean(0)


@contextmanager
def _without_gradients(network: nn.Module) -> Iterator[None]:
    """Let no parameter take gradients: a compiled backward pass would work them out, too."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


__all__ = [
    "Adversary",
    "ForwardOutputs",
    "divergence_from",
    "mean_teacher_probabilities",
]
