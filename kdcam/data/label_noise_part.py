"""Wrong training labels made on purpose or read from a file, with a record of which are wrong."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.data.common_config import NoiseConfig, NoiseKind
from kdcam.data.label_noise import TrainingImages, check_labels_file, read_labels, read_matrix
from kdcam.data.sources.cifar_classes import confused_classes
from kdcam.errors import DataError
from kdcam.runtime.seeding import seeded_generator

_DRAWN_AT_ONCE = 16_384  # labels; a row of K probabilities is held for each


class NoisyLabels(NamedTuple):
    """The labels of the training part before and after noise."""

    clean: Tensor  # (N,) int64
    noisy: Tensor  # (N,) int64, what training sees
    changed: Tensor  # (N,) bool, noisy != clean
    kind: NoiseKind
    nominal_rate: float | None  # share of wrong labels to expect; None: labels read from a file, not drawn

    @property
    def realised_rate(self) -> float:
        """Return the share of labels that are wrong."""
        return float(self.changed.double().mean())

    def summary(self) -> dict[str, str | float | None]:
        """Return the kind, and how many labels were to be wrong and are."""
        return {"kind": self.kind, "nominal_rate": self.nominal_rate, "realised_rate": self.realised_rate}

    def sentence(self) -> str:
        """Return the summary in words."""
        expected = "" if self.nominal_rate is None else f", {self.nominal_rate:.1%} were to be expected"
        return (
            f"label noise ({self.kind}): {self.realised_rate:.1%} of the training labels are wrong{expected}"
        )


def symmetric_transition(num_classes: int, rate: float) -> Tensor:
    """Return the matrix (K, K) float64 of exclusive symmetric noise: rate / (K - 1) off the diagonal.

    In this and the other transition matrices entry (i, j) is the probability that a label i becomes j.
    """
    _check_classes(num_classes)
    matrix = torch.full((num_classes, num_classes), rate / (num_classes - 1), dtype=torch.float64)
    return matrix.fill_diagonal_(1 - rate)


def symmetric_inclusive_transition(num_classes: int, rate: float) -> Tensor:
    """Return the matrix (K, K) float64 of noise that draws from all classes: rate / K off the diagonal."""
    _check_classes(num_classes)
    uniform = torch.full((num_classes, num_classes), 1 / num_classes, dtype=torch.float64)
    return (1 - rate) * torch.eye(num_classes, dtype=torch.float64) + rate * uniform


def pairflip_transition(num_classes: int, rate: float) -> Tensor:
    """Return the matrix (K, K) float64 of noise that takes each class for the next one, the last for the first."""
    _check_classes(num_classes)
    return _mapped({k: (k + 1) % num_classes for k in range(num_classes)}, num_classes, rate)


def asymmetric_transition(label_names: Sequence[str], rate: float) -> Tensor:
    """Return the matrix (K, K) float64 of noise between look-alikes; see `look_alikes`, whose errors it raises."""
    return _mapped(confused_classes(label_names), len(label_names), rate)


def _mapped(taken_for: dict[int, int], num_classes: int, rate: float) -> Tensor:
    matrix = torch.eye(num_classes, dtype=torch.float64)
    for label, other in taken_for.items():
        matrix[label, label] = 1 - rate
        matrix[label, other] = rate
    return matrix


def transition_matrix(config: NoiseConfig, label_names: Sequence[str]) -> Tensor | None:
    """Return the transition matrix (K, K) float64 that ``config`` asks for; None for labels read from a file.

    Raises ``DataError`` for asymmetric noise on classes that it is not defined for, and for a bad matrix file.
    """
    num_classes, rate = len(label_names), config.rate or 0.0  # the settings see to a rate where there is one
    match config.kind:
        case "symmetric":
            return symmetric_transition(num_classes, rate)
        case "symmetric-inclusive":
            return symmetric_inclusive_transition(num_classes, rate)
        case "asymmetric":
            return asymmetric_transition(label_names, rate)
        case "pairflip":
            return pairflip_transition(num_classes, rate)
        case "matrix":
            assert config.file is not None
            return read_matrix(config.file, num_classes)
        case "file":
            return None


def symmetric_noise(targets: Tensor, *, num_classes: int, rate: float, generator: torch.Generator) -> Tensor:
    """Return ``targets`` (N,) with each label changed with probability ``rate`` to one of the other classes.

    The exclusive form: a changed label is never the true one, and off the diagonal the transition matrix is
    rate / (num_classes - 1). Each label is drawn on its own, so the realised rate differs a little from
    ``rate``.
    """
    _check_classes(num_classes)
    hit = torch.rand(targets.shape, generator=generator) < rate
    shift = torch.randint(1, num_classes, targets.shape, generator=generator)
    return torch.where(hit, (targets + shift) % num_classes, targets)


def matrix_noise(targets: Tensor, transition: Tensor, *, generator: torch.Generator) -> Tensor:
    """Return labels (N,) drawn, each on its own, from the rows of ``transition`` (K, K) that ``targets`` (N,) name."""
    cumulative = transition.double().cumsum(1)
    cumulative = cumulative / cumulative[:, -1:]  # ends at 1 exactly, above every draw
    draws = torch.rand(targets.shape, generator=generator, dtype=torch.float64)
    drawn = [
        torch.searchsorted(cumulative[labels], draw[:, None], right=True).squeeze(1)
        for labels, draw in zip(targets.split(_DRAWN_AT_ONCE), draws.split(_DRAWN_AT_ONCE), strict=True)
    ]
    return torch.cat(drawn)


def add_noise(
    targets: Tensor, config: NoiseConfig, *, label_names: Sequence[str], images: TrainingImages
) -> NoisyLabels:
    """Return the noisy labels that ``config`` asks for; the same for the same targets and config.

    Args:
        targets: (N,) int64, the labels of the training part.
        config: Which noise.
        label_names: The classes.
        images: The images of the training part, which a file of labels names.

    Raises ``DataError`` as `transition_matrix` and `read_labels` do.
    """
    transition = transition_matrix(config, label_names)
    if transition is None:
        assert config.file is not None
        assert config.column is not None
        noisy = read_labels(
            config.file, config.column, images=images, targets=targets, label_names=label_names
        )
        return NoisyLabels(targets, noisy, noisy != targets, config.kind, None)
    generator = seeded_generator(config.seed)
    if config.kind == "symmetric":
        assert config.rate is not None
        noisy = symmetric_noise(targets, num_classes=len(label_names), rate=config.rate, generator=generator)
    else:
        noisy = matrix_noise(targets, transition, generator=generator)
    nominal = 1 - float(transition.diagonal()[targets].mean())
    return NoisyLabels(targets, noisy, noisy != targets, config.kind, nominal)


def check_noise(config: NoiseConfig, *, num_classes: int, label_names: Sequence[str] | None) -> None:
    """Raise ``DataError`` for what is wrong with a noise before any image is read.

    ``label_names`` is None where the names of the classes are not known yet.
    """
    if num_classes < 2:
        raise DataError(
            f"data.noise: found {num_classes} class in the data, where no label can be wrong; add a second class, or "
            "remove data.noise"
        )
    if config.kind == "file":
        assert config.file is not None
        assert config.column is not None
        check_labels_file(config.file, config.column)
    elif config.kind == "matrix":
        assert config.file is not None
        read_matrix(config.file, num_classes)
    elif config.kind == "asymmetric" and label_names is not None:
        confused_classes(label_names)


def _check_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; label noise needs at least 2 classes")


__all__ = [
    "NoisyLabels",
    "add_noise",
    "asymmetric_transition",
    "check_noise",
    "matrix_noise",
    "pairflip_transition",
    "symmetric_inclusive_transition",
    "symmetric_noise",
    "symmetric_transition",
    "transition_matrix",
]
