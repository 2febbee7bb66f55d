"""Whether a classifier's scores tell images like those it was trained on from images of another data set."""

import math
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from kdcam.data.batches.batch import Batches
from kdcam.data.batches.resident import epoch_order
from kdcam.data.batches.streaming import FilePictures, StreamBatches, StreamImages
from kdcam.data.sources.picture_files import readable_pictures
from kdcam.errors import DataError
from kdcam.files.paths import exists, expanded, is_folder
from kdcam.runtime.numerics import require_finite_outputs
from kdcam.runtime.progress import Progress
from kdcam.scores.ranking import auroc

ScoreName = Literal["max_softmax", "energy"]
_TRUE_POSITIVE_RATE = 0.95


class DetectionRow(BaseModel):
    """How well one score tells the two data sets apart; images of the classifier's own are the positives."""

    model_config = ConfigDict(frozen=True)

    score: ScoreName
    auroc: float  # chance that an own image scores above a foreign one, ties half; 0.5: blind
    fpr_at_95: float  # share of foreign images let in by the threshold that lets in 95 % of the own


class OutOfDistributionReport(BaseModel):
    """What a classifier's scores say of images of another data set."""

    model_config = ConfigDict(frozen=True)

    own_images: int
    foreign_images: int
    rows: tuple[DetectionRow, ...]


def out_of_distribution_report(own_logits: Tensor, foreign_logits: Tensor) -> OutOfDistributionReport:
    """Return how well max-softmax and energy tell own images (N, K) from foreign ones (M, K), by their logits.

    Raises ``DataError`` where there are no images of one of them, ``ModelError`` where logits are not finite.
    """
    for logits, whose in ((own_logits, "own"), (foreign_logits, "foreign")):
        if logits.ndim != 2 or len(logits) == 0:
            raise DataError(
                f"out of distribution: logits of the {whose} images have shape {tuple(logits.shape)}; it needs "
                "(N, K) of at least one image"
            )
        require_finite_outputs(logits, f"out of distribution, {whose} images")
    return OutOfDistributionReport(
        own_images=len(own_logits),
        foreign_images=len(foreign_logits),
        rows=(
            _row("max_softmax", max_softmax(own_logits), max_softmax(foreign_logits)),
            _row("energy", energy(own_logits), energy(foreign_logits)),
        ),
    )


def max_softmax(logits: Tensor) -> Tensor:
    """Return the top probability (N,) of logits (N, K), in float64.

    Source: Hendrycks and Gimpel 2017, arXiv 1610.02136.
    """
    return logits.double().softmax(1).amax(1)


def energy(logits: Tensor) -> Tensor:
    """Return logsumexp(logits), (N,) in float64: the negative of the energy, high for images like the own.

    Source: Liu et al. 2020, arXiv 2010.03759, eq. 4 with T = 1.
    """
    return torch.logsumexp(logits.double(), dim=1)


def fpr_at_95(positive_scores: Tensor, negative_scores: Tensor) -> float:
    """Return the share of negatives (M,) that score at least as high as the threshold that 95 % of the positives
    (N,) reach: the highest such threshold."""
    ordered = positive_scores.sort(descending=True).values
    # the grain of 0.95 * 20 must not make 20 of 19
    needed = max(1, math.ceil(_TRUE_POSITIVE_RATE * len(ordered) - 1e-9))
    return float((negative_scores >= ordered[needed - 1]).double().mean())


def unlabelled_batches(
    folder: str | Path,
    *,
    image_size: int,
    channels: int,
    batch_size: int,
    device: torch.device,
    progress: Progress,
) -> Batches:
    """Return the batches of all pictures below a folder, as evaluation sees them; all labels are -1.

    In a shuffled order, always the same: the first images come from everywhere in the folder. Files that are no
    pictures or cannot be read are left out, and ``progress`` is told.

    Raises ``DataError`` where there is no picture that can be read.
    """
    place = expanded(folder)
    if not is_folder(place):
        raise DataError(
            f"out of distribution: {place} is {'a file' if exists(place) else 'not there'}; name a folder of "
            "pictures"
        )
    paths = readable_pictures([place], progress=progress)
    images = StreamImages(
        FilePictures(paths),
        image_size=image_size,
        channels=channels,
        order=epoch_order(len(paths), seed=0, epoch=0),
    )
    labels = torch.full((len(paths),), -1)
    return StreamBatches.in_order(images, labels, batch_size=batch_size, device=device)


def _row(score: ScoreName, own: Tensor, foreign: Tensor) -> DetectionRow:
    area = auroc(own, foreign)
    assert area is not None  # both have images
    return DetectionRow(score=score, auroc=area, fpr_at_95=fpr_at_95(own, foreign))


__all__ = [
    "DetectionRow",
    "OutOfDistributionReport",
    "ScoreName",
    "energy",
    "fpr_at_95",
    "max_softmax",
    "out_of_distribution_report",
    "unlabelled_batches",
]
