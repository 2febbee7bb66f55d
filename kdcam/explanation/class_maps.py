"""Which classes' maps explain what a classifier says about one image, and these maps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kdcam.cam.maps import caam, class_cams, grad_cam, hires_cam
from kdcam.errors import ModelError
from kdcam.models.classifier import Classifier, Outputs, Task
from kdcam.models.inspection import check_cam
from kdcam.models.output_readers import SpatialReader, spatial_reader
from kdcam.runtime.numerics import require_finite_outputs

MapMethod = Literal["cam", "gradcam", "hirescam"]
ClassRole = Literal["label", "predicted", "strongest wrong", "runner-up", "highest", "chosen"]

MOST_PRESENT = 4  # maps of an image with several labels
_FROM_GRADIENT = {"gradcam": grad_cam, "hirescam": hires_cam}


class ShownClass(NamedTuple):
    """A class whose map is shown, and why."""

    class_index: int
    roles: tuple[ClassRole, ...]


class ImageMaps(NamedTuple):
    """What a classifier says about one image, with the maps of some classes."""

    probabilities: Tensor  # (K,): softmax with one label an image, sigmoid with several
    shown: tuple[ShownClass, ...]
    class_maps: Tensor  # (shown, H, W), as the method gives them
    caam: Tensor  # (H, W)


def method_for(classifier: Classifier, method: MapMethod) -> MapMethod:
    """Return ``method``, or "gradcam" where "cam" is asked of a network without an exact CAM.

    Raises ``ModelError`` where no map of the network can be shown at all; see `spatial_reader`.
    """
    spatial_reader(classifier)
    if method != "cam":
        return method
    try:
        check_cam(classifier)
    except ModelError:
        return "gradcam"
    return "cam"


def shown_classes(
    logits: Tensor, *, task: Task, label: int | None = None, chosen: Sequence[int] = ()
) -> tuple[ShownClass, ...]:
    """Return the classes to show for the logits (K,) of one image.

    With one label an image: the label, where it is known, and the strongest class beside it; else the
    predicted class and the runner-up. With several: the label, where it is known, and the classes predicted
    present (probability above 0.5), at most `MOST_PRESENT`, or the highest class where none is.

    Args:
        logits: (K,).
        task: whether an image has one label or several.
        label: the known label.
        chosen: these classes instead, in this order.
    """
    order = logits.argsort(descending=True, stable=True).tolist()
    if task == "multi-label":
        predicted = order[: int((logits > 0).sum())]
    else:
        predicted = order[:1]
    roles: dict[int, list[ClassRole]] = {}
    if label is not None and (not chosen or label in chosen):
        roles[label] = ["label"]
    for index in chosen or predicted[:MOST_PRESENT]:
        mark: ClassRole = "predicted" if index in predicted else "chosen"
        roles.setdefault(index, []).append(mark)
    if not chosen:
        _add_rivals(roles, order, task=task, label=label)
    ranked = chosen or roles
    return tuple(ShownClass(index, tuple(roles[index])) for index in ranked)


def _add_rivals(
    roles: dict[int, list[ClassRole]], order: Sequence[int], *, task: Task, label: int | None
) -> None:
    """Add the strongest class that is not the label, or not predicted; with several labels only to none at all."""
    if task == "multi-label":
        if not any("predicted" in marks for marks in roles.values()):
            roles.setdefault(order[0], []).append("highest")
        return
    others = [index for index in order if index != (order[0] if label is None else label)]
    if others:
        mark: ClassRole = "runner-up" if label is None else "strongest wrong"
        roles.setdefault(others[0], []).append(mark)


def explain_image(
    classifier: Classifier,
    image: Tensor,
    *,
    method: MapMethod,
    label: int | None = None,
    chosen: Sequence[int] = (),
    reader: SpatialReader | None = None,
    place: str = "explaining",
) -> ImageMaps:
    """Return the maps that explain what a classifier in eval mode says about one image; no gradient stays.

    Args:
        classifier: with a map that ``method`` can read; see `method_for`.
        image: (C, S, S) in [0, 1].
        method: "cam": the class's weights times the channels, plus its bias, so that the map's mean is the
            logit. "gradcam", "hirescam": see `kdcam.cam.maps`.
        label: its known label.
        chosen: the classes to show; by default as `shown_classes` says.
        reader: of the classifier, where it is at hand; None: it is found anew.
        place: what an error begins with.

    Raises ``ModelError`` where the network's logits or its feature map are not finite.
    """
    images = image.to(classifier.mean.device)[None]
    read, by_gradient = reader or spatial_reader(classifier), method != "cam"
    with mapped_outputs(read, images, by_gradient=by_gradient, place=place) as outputs:
        assert outputs.feature_map is not None
        logits = outputs.logits[0].detach()
        shown = shown_classes(logits, task=classifier.task, label=label, chosen=chosen)
        maps = _class_maps(outputs, [one.class_index for one in shown], method)
    return ImageMaps(
        classifier.probabilities(logits), shown, maps.detach(), caam(outputs.feature_map.detach())[0]
    )


@contextmanager
def mapped_outputs(
    read: SpatialReader, images: Tensor, *, by_gradient: bool, place: str
) -> Iterator[Outputs]:
    """Yield what a classifier in eval mode says about images, with its feature map, in float32.

    Args:
        read: its reader.
        images: (N, C, S, S) in [0, 1], on its device; they may be inference tensors.
        by_gradient: whether the body asks for gradients with respect to the feature map.
        place: what an error begins with.

    Raises ``ModelError`` where the logits or the feature map are not finite.
    """
    # Leaving inference mode is not enough for its tensors: only their copies can enter autograd.
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(by_gradient),
        torch.autocast(images.device.type, enabled=False),
    ):
        outputs = read(images.detach().clone().requires_grad_(by_gradient))
        assert outputs.feature_map is not None
        require_finite_outputs(outputs.logits, place)
        require_finite_outputs(outputs.feature_map, place, what="feature maps")
        yield outputs


def _class_maps(outputs: Outputs, classes: Sequence[int], method: MapMethod) -> Tensor:
    feature_map, weight, bias = outputs.feature_map, outputs.weight, outputs.bias
    assert feature_map is not None
    if method == "cam":
        assert weight is not None
        rows = list(classes)
        return class_cams(feature_map, weight[rows], None if bias is None else bias[rows])[0]
    maps = []
    for index in classes:
        (gradient,) = torch.autograd.grad(outputs.logits[0, index], feature_map, retain_graph=True)
        maps.append(_FROM_GRADIENT[method](feature_map.detach(), gradient)[0])
    return torch.stack(maps)


__all__ = [
    "MOST_PRESENT",
    "ClassRole",
    "ImageMaps",
    "MapMethod",
    "ShownClass",
    "explain_image",
    "mapped_outputs",
    "method_for",
    "shown_classes",
]
