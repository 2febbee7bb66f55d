"""The pointing game of a classifier over a part of the data whose boxes are known."""

from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.cam.maps import caam, target_cam
from kdcam.data.batches.batch import Batches
from kdcam.errors import ModelError
from kdcam.evaluation.localization.pointing_game import pointing_game
from kdcam.models.classifier import Classifier
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.numerics import FiniteCheck


class PointingScores(NamedTuple):
    """Shares of images, in [0, 1], whose map is highest inside the box of the labelled object."""

    label_cam: float  # the class activation map of the label
    caam: float  # the class-agnostic activation map


def pointing_scores(classifier: Classifier, batches: Batches, boxes: Tensor) -> PointingScores:
    """Return how often a classifier's maps point into the boxes (N, 4) of a part's images.

    Raises ``ModelError`` for a network without a feature map or without a linear classifier, and where its maps are not
    finite.
    """
    finite = FiniteCheck("feature maps")
    hits = torch.zeros(2, dtype=torch.int64)
    with eval_mode(classifier), torch.no_grad():
        for batch in batches.epoch(0):
            outputs = classifier.outputs(batch.images)
            if outputs.feature_map is None or outputs.weight is None:
                raise ModelError(f"{classifier.config.name!r} has no class activation map to point with")
            finite.take(outputs.feature_map)
            of_batch = boxes[batch.indices.cpu()].to(batch.images.device)
            label_cam = target_cam(outputs.feature_map, outputs.weight, batch.targets)
            for row, maps in enumerate((label_cam, caam(outputs.feature_map))):
                hits[row] += pointing_game(maps, of_batch, batch.images.shape[-1]).sum().cpu()
    finite.require("pointing game")
    label_hits, caam_hits = hits.tolist()
    return PointingScores(label_hits / batches.num_images, caam_hits / batches.num_images)


__all__ = ["PointingScores", "pointing_scores"]
