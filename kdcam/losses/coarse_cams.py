"""Class activation maps of all classes on a coarse grid, where two networks can be compared cell by cell."""

import torch.nn.functional as F
from torch import Tensor

from kdcam.cam.maps import class_cams
from kdcam.losses.loss import Shapes, Step, Widths, present, teacher_of
from kdcam.numerics import wide


def coarse(maps: Tensor, resolution: int) -> Tensor:
    """Return maps (N, C, H, W) as (N, C, r, r) by adaptive average pooling, in float32 or wider."""
    return F.adaptive_avg_pool2d(wide(maps), resolution)


def coarse_student_cams(step: Step, resolution: int) -> Tensor:
    """Return the student's maps (N, K, r, r) of all classes, biases included: their mean is the logit."""
    feature_map = present(step.student.feature_map, "the student's feature map")
    weight = present(step.student.weight, "the student's classifier weight")
    # Pooling and the classifier are both linear, and in this order the maps of all classes are made small.
    return class_cams(coarse(feature_map, resolution), weight, step.student.bias)


def coarse_teacher_cams(step: Step, resolution: int) -> Tensor:
    """Return the teacher's maps (N, K, r, r) of all classes, biases included."""
    return coarse(present(teacher_of(step).class_cams, "the teacher's class activation maps"), resolution)


def smallest_side(shapes: Shapes) -> tuple[str, int] | None:
    """Return whose last map has the shortest side ("student" or "teacher") and that side; None where none has a map."""
    sides = {
        name: side
        for name, widths in {"student": shapes.student, "teacher": shapes.teacher}.items()
        if (side := _shorter_side(widths)) is not None
    }
    return min(sides.items(), key=lambda one: one[1]) if sides else None


def _shorter_side(widths: Widths | None) -> int | None:
    if widths is None or widths.height is None or widths.width is None:
        return None
    return min(widths.height, widths.width)


__all__ = ["coarse", "coarse_student_cams", "coarse_teacher_cams", "smallest_side"]
