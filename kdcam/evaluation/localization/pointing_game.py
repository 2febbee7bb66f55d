"""Whether maps point at the object: the pointing game, energy inside the box, and both maps of a part's images."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcam.cam.maps import caam, target_cam
from kdcam.data.batches.batch import Batches
from kdcam.errors import ModelError
from kdcam.models.classifier import Classifier
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.numerics import FiniteCheck

_LARGEST_BYTE = 255
_LARGE_EXPONENT = 100  # of the 128 that float32 has: 2^-100 is still a normal number


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


def pointing_game(maps: Tensor, boxes: Tensor, image_size: int) -> Tensor:
    """Return for each image whether the highest position of its map lies in one of its boxes.

    The map is brought to the image's size first (bilinear); of several equally high pixels the first in
    reading order counts. A constant map, or one that is not finite, points nowhere: a miss.

    Args:
        maps: (N, H, W), of any scale.
        boxes: (N, 4), or (N, B, 4) with nan where an image has fewer: x0, y0, x1, y1 in pixels of the image, the
            end exclusive; a pixel is in the box when its centre is.
        image_size: side of the square image.

    Returns:
        (N,) bool.

    Source: Top-Down Neural Attention by Excitation Backprop (Zhang et al. 2016, arXiv 1608.00507), without
    its tolerance of 15 pixels.
    """
    boxes = _several_boxes(maps, boxes)
    x, y = _highest_pixels(maps.detach().float(), image_size)
    x0, y0, x1, y1 = boxes.to(maps.device).unbind(2)
    across, down = x[:, None] + 0.5, y[:, None] + 0.5
    inside = (x0 <= across) & (across < x1) & (y0 <= down) & (down < y1)
    return inside.any(1) & ~flat_maps(maps)


def energy_inside(maps: Tensor, boxes: Tensor, image_size: int) -> Tensor:
    """Return for each image which share of its map's positive part lies in its boxes.

    The map is brought to the image's size first (bilinear). A map without any positive value, a constant one, which
    shows no location, or one that is not finite has nothing inside.

    Args:
        maps: (N, H, W), of any scale.
        boxes: as those of `pointing_game`; pixels in several boxes count once.
        image_size: side of the square image.

    Returns:
        (N,) float32 in [0, 1]; 1: nothing positive lies outside.

    Source: the energy-based pointing game of Score-CAM (Wang et al. 2020, arXiv 1910.01279).
    """
    boxes = _several_boxes(maps, boxes)
    positive = _enlarged(_summable(maps.detach().float().nan_to_num(0, 0, 0)), image_size).relu()
    centres = torch.arange(image_size, device=maps.device) + 0.5
    x0, y0, x1, y1 = boxes.to(maps.device)[..., None].unbind(2)  # each (N, B, 1)
    columns, rows = (x0 <= centres) & (centres < x1), (y0 <= centres) & (centres < y1)
    inside = (rows[..., None] & columns[:, :, None]).any(1)
    total = positive.sum((1, 2))
    share = (positive * inside).sum((1, 2)) / total.where(total > 0, 1)
    return share.masked_fill(flat_maps(maps), 0).clamp(max=1)


def flat_maps(maps: Tensor) -> Tensor:
    """Return (N,) whether each map (N, H, W) shows no location: it is constant, or not finite."""
    flat = maps.detach().float().flatten(1)
    return (flat.amax(1) <= flat.amin(1)) | ~flat.isfinite().all(1)


def byte_maps(maps: Tensor, size: int) -> Tensor:
    """Return maps (N, H, W) as (N, ``size``, ``size``) uint8, each enlarged (bicubic) and stretched to 0 ... 255.

    As clovaai/wsolevaluation prepares maps (inference.py and evaluation.py): enlarged first, stretched then, and cut
    down to whole numbers. A constant map, or one that is not finite, gives zeros.
    """
    flat = flat_maps(maps)[:, None, None]
    found = _summable(maps.detach().float().masked_fill(flat, 0))
    enlarged = F.interpolate(found[:, None], (size, size), mode="bicubic", align_corners=False)[:, 0]
    low, high = enlarged.amin((1, 2), keepdim=True), enlarged.amax((1, 2), keepdim=True)
    spread = high - low
    shares = (enlarged - low) / spread.where(spread > 0, 1)
    return (shares.masked_fill(flat, 0) * _LARGEST_BYTE).to(torch.uint8)


def _several_boxes(maps: Tensor, boxes: Tensor) -> Tensor:
    """Return the boxes as (N, B, 4)."""
    fits = boxes.ndim in (2, 3) and len(boxes) == len(maps) and boxes.shape[-1] == 4
    if maps.ndim != 3 or not fits:
        raise ValueError(
            f"maps of shape {tuple(maps.shape)} and boxes of shape {tuple(boxes.shape)}; wanted (N, H, W) "
            "and (N, 4) or (N, B, 4)"
        )
    return boxes if boxes.ndim == 3 else boxes[:, None]


def _highest_pixels(maps: Tensor, image_size: int) -> tuple[Tensor, Tensor]:
    positions = _enlarged(maps, image_size).flatten(1).argmax(1)
    return positions % image_size, torch.div(positions, image_size, rounding_mode="floor")


def _enlarged(maps: Tensor, image_size: int) -> Tensor:
    size = (image_size, image_size)
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _summable(maps: Tensor) -> Tensor:
    """Return maps (N, H, W) whose sums and differences stay finite: large ones divided by a power of two, exactly."""
    exponents = maps.abs().amax((1, 2), keepdim=True).frexp().exponent
    return maps * torch.exp2(-exponents.clamp(0, _LARGE_EXPONENT).float())


__all__ = [
    "PointingScores",
    "byte_maps",
    "energy_inside",
    "flat_maps",
    "pointing_game",
    "pointing_scores",
]
