"""One pass over images whose boxes are known: box overlaps, the pointing game and the energy inside, of their maps."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kdcam.cam.maps import caam, grad_cam, hires_cam, target_cam
from kdcam.data.batches.batch import Batch, Batches
from kdcam.data.object_boxes import ObjectBoxes
from kdcam.errors import Interrupted, ModelError
from kdcam.evaluation.localization.box_accuracy import (
    BoxTally,
    Contours,
    level_overlaps,
    truncated_pixels,
    whole_pixels,
)
from kdcam.evaluation.localization.localization_schema import MapKind
from kdcam.explanation.class_maps import mapped_outputs, method_for
from kdcam.models.classifier import Classifier
from kdcam.models.output_readers import spatial_reader
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.numerics import FiniteCheck
from kdcam.runtime.progress import Progress

_SHOWN = 6  # maps that are kept for a picture: kdcam's choice
_LARGEST_BYTE = 255
_LARGE_EXPONENT = 100  # of the 128 that float32 has: 2^-100 is still a normal number


class BoxedImages(NamedTuple):
    """Images with boxes, in batches; each row of boxes (a pair of an image and a class, usually) has a map."""

    batches: Batches  # in order
    boxes: ObjectBoxes  # of these images
    digest: str  # of `kdcam.evaluation.localization.prepared_runs.evaluated_digest`


class MapOptions(NamedTuple):
    """What decides the numbers beside network and images."""

    kind: MapKind
    by_label: bool  # the map of the label, else of the class that the network says
    resolution: int  # side in pixels
    contours: Contours


class LocatedMaps(NamedTuple):
    """Maps of some images, with what they are held against."""

    images: Tensor  # (M, C, S, S), one a map
    maps: Tensor  # (M, H, W)
    boxes: Tensor  # (M, B, 4), as those of `ObjectBoxes`, on the CPU
    pixels: Tensor  # (M, B, 2), as those of `ObjectBoxes`, on the CPU


class LocalizationCounts(NamedTuple):
    """What was counted."""

    maps: int
    images: int
    tally: BoxTally
    pointing: float  # share of the maps whose highest position lies in a box
    energy: float  # mean share of a map's positive part that lies in a box
    flat_maps: int  # constant or not finite: they show no location
    first: LocatedMaps  # the first `_SHOWN`, on the CPU


class PointingScores(NamedTuple):
    """Shares of images, in [0, 1], whose map is highest inside the box of the labelled object."""

    label_cam: float  # the class activation map of the label
    caam: float  # the class-agnostic activation map


def measure_localization(
    classifier: Classifier, sample: BoxedImages, options: MapOptions, *, task: str, progress: Progress
) -> LocalizationCounts:
    """Return what is counted of the maps of a sample's images.

    Raises ``Interrupted`` where the user asked to stop, ``DataError`` for a picture that cannot be read.
    """
    tally, size = BoxTally(), sample.boxes.image_size
    pointing = flat = 0
    energy = 0.0
    first: list[LocatedMaps] = []
    with eval_mode(classifier):
        for located in located_batches(classifier, sample, options):
            small = byte_maps(located.maps, options.resolution).cpu().numpy()
            tally.add(level_overlaps(small, objects_of(located, options), contours=options.contours))
            boxes = located.boxes.to(located.maps.device, torch.float32)
            pointing += int(pointing_game(located.maps, boxes, size).sum())
            energy += float(energy_inside(located.maps, boxes, size).double().sum())
            flat += int(flat_maps(located.maps).sum())
            if len(first) < _SHOWN:
                first += _single(located, _SHOWN - len(first))
            progress.advance(task, tally.maps, len(sample.boxes.images))
            if progress.should_stop():
                raise Interrupted(
                    "the evaluation was stopped; nothing of it is kept, the same command begins anew"
                )
    images = len(sample.boxes.images.unique())
    shown = LocatedMaps(*(torch.cat(column) for column in zip(*first, strict=True)))
    return LocalizationCounts(
        tally.maps, images, tally, pointing / tally.maps, energy / tally.maps, flat, shown
    )


def located_batches(
    classifier: Classifier, sample: BoxedImages, options: MapOptions
) -> Iterator[LocatedMaps]:
    """Yield the maps of a sample's images, batch by batch; the classifier is in eval mode."""
    boxes = sample.boxes
    for batch in sample.batches.epoch(0):
        rows = _rows(boxes, batch)
        if rows.stop > rows.start:
            local = boxes.images[rows] - int(batch.indices[0])
            images = batch.images[local.to(batch.images.device)]
            classes = boxes.classes[rows].to(images.device) if options.by_label else None
            maps = batch_maps(classifier, images, classes, options.kind)
            yield LocatedMaps(images, maps, boxes.boxes[rows], boxes.pixels[rows])


def _rows(boxes: ObjectBoxes, batch: Batch) -> slice:
    first, last = int(batch.indices[0]), int(batch.indices[-1])
    begin, end = torch.searchsorted(boxes.images, torch.tensor([first, last + 1])).tolist()
    return slice(begin, end)


def _single(located: LocatedMaps, most: int) -> list[LocatedMaps]:
    """Return the first maps, each alone, copied to the CPU."""
    return [
        LocatedMaps(*(column[row : row + 1].cpu().clone() for column in located))
        for row in range(min(most, len(located.maps)))
    ]


def map_kind_for(classifier: Classifier, kind: MapKind) -> MapKind:
    """Return ``kind``, or "gradcam" where "cam" is asked of a network without an exact CAM.

    Raises ``ModelError`` where the network has no map to show at all.
    """
    found = method_for(classifier, "gradcam" if kind == "caam" else kind)
    return kind if kind == "caam" else found


def batch_maps(classifier: Classifier, images: Tensor, classes: Tensor | None, kind: MapKind) -> Tensor:
    """Return a map for each image, of a classifier in eval mode; no gradient stays.

    Args:
        classifier: with a map that ``kind`` can read; see `map_kind_for`.
        images: (N, C, S, S) in [0, 1].
        classes: (N,) int64; None: the class that the network says.
        kind: "cam" (without the bias), "caam" (of no class) "gradcam" or "hirescam"; see `kdcam.cam.maps`.

    Returns:
        (N, H, W) float32.

    Raises ``ModelError`` where the network has no map to read (see `kdcam.models.output_readers.spatial_reader`), and
    where its logits or maps are not finite.
    """
    by_gradient = kind in ("gradcam", "hirescam")
    reader = spatial_reader(classifier)
    with mapped_outputs(reader, images, by_gradient=by_gradient, place="a batch of images") as outputs:
        feature_map, weight = outputs.feature_map, outputs.weight
        assert feature_map is not None
        of = outputs.logits.detach().argmax(1) if classes is None else classes
        if kind == "caam":
            return caam(feature_map).detach()
        if kind == "cam":
            assert weight is not None
            return target_cam(feature_map, weight, of).detach()
        # In eval mode an image's score depends on its own map alone: one backward pass gives all gradients.
        score = outputs.logits.gather(1, of[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, feature_map)
        return (grad_cam if kind == "gradcam" else hires_cam)(feature_map.detach(), gradient)


def objects_of(located: LocatedMaps, options: MapOptions) -> NDArray[np.float64]:
    """Return the objects' boxes (M, B, 4) in whole pixels of maps at the resolution, the last one included."""
    size, boxes = located.images.shape[-1], located.boxes.numpy()
    if options.contours == "regions":
        return whole_pixels(boxes, size, options.resolution)
    return truncated_pixels(boxes, located.pixels.numpy(), size, options.resolution)


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
    "BoxedImages",
    "LocalizationCounts",
    "LocatedMaps",
    "MapOptions",
    "PointingScores",
    "batch_maps",
    "byte_maps",
    "energy_inside",
    "flat_maps",
    "located_batches",
    "map_kind_for",
    "measure_localization",
    "objects_of",
    "pointing_game",
    "pointing_scores",
]
