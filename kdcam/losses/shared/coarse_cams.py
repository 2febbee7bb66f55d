"""Class activation maps of all classes on a coarse grid, where two networks can be compared cell by cell.

A class's mean over the cells is its logit where the grid divides both sides of the map. Elsewhere neighbouring cells
share positions, which then count more than once: of a 7 x 7 map on a 2 x 2 grid the middle row and column count twice.
"""

import torch.nn.functional as F
from torch import Tensor

from kdcam.cam.maps import class_cams
from kdcam.losses.loss import Shapes, Step, present, teacher_of
from kdcam.models.classifier import Widths
from kdcam.runtime.numerics import wide


def coarse(maps: Tensor, resolution: int) -> Tensor:
    """Return maps (N, C, H, W) as (N, C, r, r) by adaptive average pooling, in float32 or wider.

    The mean over the map stays where r divides H and W; elsewhere cells overlap.
    """
    return F.adaptive_avg_pool2d(wide(maps), resolution)


def coarse_student_cams(step: Step, resolution: int) -> Tensor:
    """Return the student's maps (N, K, r, r) of all classes, biases included.

    Where r divides both sides of the map, their means are the logits.
    """
    feature_map = present(step.student.feature_map, "the student's feature map")
    weight = present(step.student.weight, "the student's classifier weight")
    # Pooling and the classifier are both linear, and in this order the maps of all classes are made small.
    return class_cams(coarse(feature_map, resolution), weight, step.student.bias)


def coarse_teacher_cams(step: Step, resolution: int) -> Tensor:
    """Return the teacher's maps (N, K, r, r) of all classes, biases included."""
    return coarse(present(teacher_of(step).class_cams, "the teacher's class activation maps"), resolution)


def smallest_side(shapes: Shapes) -> tuple[str, int] | None:
    """Return whose last map has the shortest side ("student" or "teacher") and that side; None where none has a map."""
    sides = (
        (name, side)
        for name, widths in (("student", shapes.student), ("teacher", shapes.teacher))
        if (side := _shorter_side(widths)) is not None
    )
    return min(sides, key=lambda one: one[1], default=None)


def _shorter_side(widths: Widths | None) -> int | None:
    if widths is None or widths.height is None or widths.width is None:
        return None
    return min(widths.height, widths.width)


__all__ = ["coarse", "coarse_student_cams", "coarse_teacher_cams", "smallest_side"]
