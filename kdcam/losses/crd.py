"""Contrastive representation distillation (CRD): the teacher's view of an image is told from other images' views."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kdcam.errors import DataError
from kdcam.losses.loss import LossConfig, Shapes, Step, present, teacher_of
from kdcam.losses.shared.sample_memory import LatestRecord
from kdcam.runtime.distributed import gather_over_processes
from kdcam.runtime.numerics import unit_rows, wide

_EPS = 1e-7  # added to probabilities, as in HobbitLong/RepDistiller
_PRODUCT_GAIN = 32  # a number gathered costs as much as this many multiplied; measured on one CPU core
_MANY = 2**62  # a remainder of numbers up to it is even to one part in 2^62 / n


class CrdConfig(LossConfig):
    """Contrastive representation distillation, CRD (Tian, Krishnan, Isola, ICLR 2020, arXiv 1910.10699): the student's
    embedding of an image is told to be of the same image as the teacher's, among many of other images.

    Idea: a bound on the information that student and teacher share, raised by telling pairs of one image from pairs
    of two. Both embeddings pass a linear layer to a common width and are set to length 1; both layers are learned with
    the student, and the teacher has no gradient. Other images are remembered, not computed: a bank a side holds an
    embedding of each training image.

    Equation: with s an embedded student, b the teacher's bank, y the image itself, j one of m negatives drawn among
    the n training images, P_j = exp(s . b_j / temperature) / Z and c = m / n: L_student = mean over images of
    -log(P_y / (P_y + c)) - sum_j log(c / (P_j + c)), and L = L_student + the same of the embedded teacher and the
    student's bank. Z = n * the mean of exp in the first batch, and then stands. After each step the bank's entry of
    an image is momentum * itself + (1 - momentum) * the new embedding, at length 1.

    When it helps: the best of RepDistiller's 13 methods on all 13 pairs of the standard CIFAR-100 table.

    Where it fails: few epochs, as the banks start at random. Banks take 2 x n x embedding_width x 4 bytes, in every
    checkpoint too: 51 MB for 50,000 images, 1.3 GB for ImageNet. A step contrasts each image with 16,384 others on both
    sides: with 64 images a process and 50,000 in all 0.13 s on one CPU core. It is worked out as the product with
    the whole bank (N x n numbers and a copy of the bank) up to n = 32 (negatives + 1), beyond as a gather of rows
    (537 MB a side and 1.6 s a step, as published); the numbers are the same. One class alone leaves no negatives and is
    refused.

    Constants: weight 0.8 beside 1 of cross_entropy, 128 numbers, 16,384 negatives, temperature 0.07, momentum 0.5 and
    mode "exact" (the image itself against images of other classes) are HobbitLong/RepDistiller's (train_student.py,
    scripts/run_cifar_distill.sh). There negatives are drawn without replacement where the training images suffice;
    here always with it, which has the same mean and is drawn on the device. RepDistiller decays the layers' weights,
    kdcam those of no loss. Z is the mean over all processes' first batches (kdcam's choice).
    """

    name: Literal["crd"] = "crd"
    weight: float = Field(0.8, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    embedding_width: int = Field(128, ge=1, description="numbers that both embeddings are mapped to")
    negatives: int = Field(16384, ge=1, description="images of other classes that each image is told from")
    temperature: float = Field(
        0.07, ge=0.02, allow_inf_nan=False, description="cosines are divided by it before exp"
    )
    momentum: float = Field(
        0.5, ge=0, lt=1, description="share of the old entry in the banks; 0: the latest counts alone"
    )

    needs: ClassVar[frozenset[str]] = frozenset({"teacher.embedding"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module; raises ``DataError`` where one class has all training images."""
        return Crd(self, shapes)


def densities(embedding: Tensor, bank: Tensor, chosen: Tensor, *, temperature: float) -> Tensor:
    """Return exp(embedding . bank entry / temperature) of each image's chosen entries, (N, 1 + M), above 0.

    Args:
        embedding: (N, D), rows of length 1.
        bank: (n, D); it may change in place before the backward pass.
        chosen: (N, 1 + M) positions in the bank.
        temperature: above 0.

    Source: Tian et al. 2020 (arXiv 1910.10699).
    """
    with torch.autocast(embedding.device.type, enabled=False):
        if len(bank) <= _PRODUCT_GAIN * chosen.shape[1]:
            cosines = _by_product(embedding, bank, chosen)
        else:
            cosines = _by_gather(embedding, bank, chosen)
    return (cosines / temperature).exp()


def _by_product(embedding: Tensor, bank: Tensor, chosen: Tensor) -> Tensor:
    # A copy: the banks are written to before the backward pass, which needs these values.
    return (embedding @ bank.clone().T).gather(1, chosen)


def _by_gather(embedding: Tensor, bank: Tensor, chosen: Tensor) -> Tensor:
    entries = bank.index_select(0, chosen.flatten()).view(*chosen.shape, -1)
    return (entries @ embedding[:, :, None]).squeeze(2)


def noise_contrast(probabilities: Tensor, num_images: int) -> Tensor:
    """Return the mean cost of telling each image from its negatives, a scalar above 0.

    ``probabilities`` (N, 1 + M) are of the image itself and then of the negatives, as `densities` / Z;
    ``num_images`` are those that negatives were drawn from. Source: Tian et al. 2020 (arXiv 1910.10699), equation 18.
    """
    noise = (probabilities.shape[1] - 1) / num_images
    own, others = probabilities[:, 0], probabilities[:, 1:]
    # -log(p / (p + noise + eps)) and -log(noise / (p + noise + eps))
    return (((noise + _EPS) / own).log1p() + ((others + _EPS) / noise).log1p().sum(1)).mean()


class Crd(nn.Module):
    """`noise_contrast` of student and teacher, each against the other's bank."""

    normalizers: Tensor

    def __init__(self, config: CrdConfig, shapes: Shapes) -> None:
        super().__init__()
        assert shapes.teacher is not None
        self.config = config
        width = config.embedding_width
        self.other_classes = OtherClasses(shapes.train_targets, shapes.num_classes)
        self.student_layer = nn.Linear(shapes.student.embedding, width)
        self.teacher_layer = nn.Linear(shapes.teacher.embedding, width)
        self.student_bank = LatestRecord(_random_bank(len(shapes.train_targets), width))
        self.teacher_bank = LatestRecord(_random_bank(len(shapes.train_targets), width))
        self.register_buffer("normalizers", torch.zeros(2))  # student's, teacher's Z; 0: not set

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step; the banks then follow the batch."""
        teacher_embedding = present(teacher_of(step).embedding, "the teacher's embedding")
        with torch.autocast(teacher_embedding.device.type, enabled=False):
            student = unit_rows(self.student_layer(wide(step.student.embedding)))
            teacher = unit_rows(self.teacher_layer(wide(teacher_embedding)))
        chosen = torch.cat(
            [step.indices[:, None], self.other_classes(step.targets, self.config.negatives)], 1
        )
        loss = self.contrast(student, teacher, chosen)
        self._remember(self.student_bank, step.indices, student.detach())
        self._remember(self.teacher_bank, step.indices, teacher.detach())
        return loss

    def contrast(self, student: Tensor, teacher: Tensor, chosen: Tensor) -> Tensor:
        """Return the loss of rows (N, D) of length 1 for chosen images (N, 1 + M), the image itself first.

        The first call sets Z.
        """
        temperature, images = self.config.temperature, len(self.student_bank.values)
        student_densities = densities(student, self.teacher_bank.values, chosen, temperature=temperature)
        teacher_densities = densities(teacher, self.student_bank.values, chosen, temperature=temperature)
        normalizers = self._normalizers(student_densities.detach(), teacher_densities.detach())
        return noise_contrast(student_densities / normalizers[0], images) + noise_contrast(
            teacher_densities / normalizers[1], images
        )

    def _normalizers(self, student_densities: Tensor, teacher_densities: Tensor) -> Tensor:
        # Worked out in each step: to ask whether they are set would make the host wait for a GPU.
        means = torch.stack([student_densities.mean(), teacher_densities.mean()])
        (of_all,) = gather_over_processes(means[None])
        first = len(self.student_bank.values) * of_all.mean(0)
        normalizers = torch.where(self.normalizers > 0, self.normalizers, first)
        self.normalizers.copy_(normalizers)
        return normalizers

    def _remember(self, bank: LatestRecord, indices: Tensor, embedding: Tensor) -> None:
        momentum = self.config.momentum
        bank.write(indices, unit_rows(momentum * bank.values[indices] + (1 - momentum) * embedding))


def _random_bank(num_images: int, width: int) -> Tensor:
    return (2 * torch.rand(num_images, width) - 1) * math.sqrt(3 / width)  # of length 1 on average


class OtherClasses(nn.Module):
    """Draws, for each image of a batch, training images of other classes than its own, evenly and with replacement.

    It keeps the positions of the training images ordered by class, 8 bytes an image, on the device and out of the
    state: they follow from the training labels. Raises ``DataError`` where one class has all images.
    """

    order: Tensor
    starts: Tensor
    counts: Tensor

    def __init__(self, train_targets: Tensor, num_classes: int) -> None:
        super().__init__()
        counts = torch.bincount(train_targets, minlength=num_classes)
        if int(counts.max()) == len(train_targets):
            raise DataError(
                f"data: all {len(train_targets)} training images are of class {int(counts.argmax())}, so that there is "
                "no image of another class to contrast them with; train on images of two classes or more, or take "
                "another loss"
            )
        self.register_buffer("order", train_targets.argsort(stable=True), persistent=False)
        self.register_buffer("starts", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("counts", counts, persistent=False)

    def forward(self, targets: Tensor, number: int) -> Tensor:
        """Return positions (N, ``number``) in the training part, of other classes than ``targets`` (N,)."""
        starts, counts = self.starts[targets][:, None], self.counts[targets][:, None]
        drawn = torch.randint(_MANY, (len(targets), number), device=targets.device)
        return self.order[past_a_block(drawn % (len(self.order) - counts), starts, counts)]


def past_a_block(ranks: Tensor, starts: Tensor, counts: Tensor) -> Tensor:
    """Return positions of ranks (N, M) outside blocks of ``counts`` (N, 1) positions from ``starts`` (N, 1) on."""
    return ranks + counts * (ranks >= starts)


__all__ = [
    "Crd",
    "CrdConfig",
    "OtherClasses",
    "densities",
    "noise_contrast",
    "past_a_block",
]
