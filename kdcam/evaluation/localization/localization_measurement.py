"""One pass over images whose boxes are known: their activation maps, and what is counted of these."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdcam.cam.maps import caam, grad_cam, hires_cam, target_cam
from kdcam.data.batches.batch import Batch, Batches
from kdcam.data.object_boxes import ObjectBoxes
from kdcam.errors import Interrupted
from kdcam.evaluation.localization.box_accuracy import (
    BoxTally,
    Contours,
    level_overlaps,
    truncated_pixels,
    whole_pixels,
)
from kdcam.evaluation.localization.localization_schema import MapKind
from kdcam.evaluation.localization.pointing_game import byte_maps, energy_inside, flat_maps, pointing_game
from kdcam.explanation.class_maps import method_for
from kdcam.models.classifier import Classifier
from kdcam.models.output_readers import spatial_reader
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.numerics import require_finite_outputs
from kdcam.runtime.progress import Progress

_SHOWN = 6  # maps that are kept for a picture: kdcam's choice


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
    # Leaving inference mode is not enough for its tensors: only their copies can enter autograd.
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(by_gradient),
        torch.autocast(images.device.type, enabled=False),
    ):
        outputs = spatial_reader(classifier)(images.detach().clone().requires_grad_(by_gradient))
        feature_map = outputs.feature_map
        assert feature_map is not None
        require_finite_outputs(outputs.logits, "a batch of images")
        require_finite_outputs(feature_map, "a batch of images", what="feature maps")
        of = outputs.logits.detach().argmax(1) if classes is None else classes
        if kind == "caam":
            return caam(feature_map).detach()
        if kind == "cam":
            assert outputs.weight is not None
            return target_cam(feature_map, outputs.weight, of).detach()
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


__all__ = [
    "BoxedImages",
    "LocalizationCounts",
    "LocatedMaps",
    "MapOptions",
    "batch_maps",
    "located_batches",
    "map_kind_for",
    "measure_localization",
    "objects_of",
]
