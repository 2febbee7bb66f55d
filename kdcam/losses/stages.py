"""The feature maps of two networks side by side: which are compared, at which size, and whether there are enough."""

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor

from kdcam.losses.loss import Shapes, Widths, present
from kdcam.models.classifier import Outputs, TeacherOutputs
from kdcam.numerics import wide

_T = TypeVar("_T")

Size = tuple[int, int, int]
"""Channels, height and width of a map."""

MAP_NEEDS = frozenset({"stages", "feature_map", "teacher.stages", "teacher.feature_map"})
"""What a loss needs that compares maps of several depths."""

_OTHER_NETWORK = "take a network that has them, such as a ResNet, or a loss of the logits, such as kd"


def all_maps(outputs: Outputs | TeacherOutputs) -> tuple[Tensor, ...]:
    """Return a network's maps (N, C, H, W), shallow to deep: the last of each size, the final one included.

    Raises ``ValueError`` when there is no final map.
    """
    return (*outputs.stages, present(outputs.feature_map, "the last feature map"))


def all_sizes(widths: Widths) -> tuple[Size, ...]:
    """Return the sizes of `all_maps`; none of a network without a final map."""
    if widths.channels is None or widths.height is None or widths.width is None:
        return ()
    return (*widths.stages, (widths.channels, widths.height, widths.width))


def matched_maps(student: Outputs, teacher: TeacherOutputs) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of the student's and the teacher's maps, shallow to deep; no gradient reaches the teacher's.

    They are matched from the end, as many as the network with fewer of them has.
    """
    return [(first, second.detach()) for first, second in _from_the_end(all_maps(student), all_maps(teacher))]


def matched_sizes(shapes: Shapes) -> list[tuple[Size, Size]]:
    """Return the sizes of `matched_maps`; raises ``ValueError`` without a teacher."""
    return _from_the_end(all_sizes(shapes.student), all_sizes(teacher_widths(shapes)))


def _from_the_end(first: tuple[_T, ...], second: tuple[_T, ...]) -> list[tuple[_T, _T]]:
    return list(zip(first[::-1], second[::-1], strict=False))[::-1]


def teacher_widths(shapes: Shapes) -> Widths:
    """Return the teacher's sizes; raises ``ValueError`` where there is none."""
    if shapes.teacher is None:
        raise ValueError("this loss compares the student with a teacher, and there is none")
    return shapes.teacher


def pool_maps_to_smaller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return two maps (N, C, H, W), in `wide`, average-pooled to the smaller height and the smaller width of both.

    Their channels may differ.
    """
    height = min(first.shape[-2], second.shape[-2])
    width = min(first.shape[-1], second.shape[-1])
    return _pool(wide(first), height, width), _pool(wide(second), height, width)


def _pool(maps: Tensor, height: int, width: int) -> Tensor:
    return maps if maps.shape[-2:] == (height, width) else F.adaptive_avg_pool2d(maps, (height, width))


def why_too_few_maps(shapes: Shapes, *, least: int = 1, way_out: str = _OTHER_NETWORK) -> str | None:
    """Return why a loss that needs ``least`` maps of student and teacher cannot work, and the way out; None: it can."""
    for who, widths in (("student", shapes.student), ("teacher", teacher_widths(shapes))):
        found = len(all_sizes(widths))
        if found < least:
            return f"the {who} has {_told(found)}, and this loss needs {least} or more; {way_out}"
    return None


def _told(found: int) -> str:
    if found == 0:
        return "no feature map (N, C, H, W)"
    if found == 1:
        return "no earlier feature maps that kdcam reads beside its last"
    return f"{found} feature maps that kdcam reads"


__all__ = [
    "MAP_NEEDS",
    "Size",
    "all_maps",
    "all_sizes",
    "matched_maps",
    "matched_sizes",
    "pool_maps_to_smaller",
    "teacher_widths",
    "why_too_few_maps",
]
