"""The feature maps of two networks side by side: which are compared, at which size, and whether there are enough."""

from typing import Annotated, Literal, TypeVar

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdcam.losses.loss import Shapes, present
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths
from kdcam.runtime.numerics import wide

_T = TypeVar("_T")

Size = tuple[int, int, int]
"""Channels, height and width of a map."""

Stages = Annotated[
    Literal["last-of-size", "published"],
    Field(
        description="the maps that are read; last-of-size: the last of each size, which most networks tell; published: "
        "those that HobbitLong/RepDistiller compares, which kdcam's networks for 32-pixel images tell"
    ),
]
"""Which of a network's maps a loss reads."""

MAP_NEEDS = frozenset({"stages", "feature_map", "teacher.stages", "teacher.feature_map"})
"""What a loss needs that compares maps of several depths, the last of each size."""

_PUBLISHED_NEEDS = frozenset({"published_stages", "teacher.published_stages"})

_OTHER_NETWORK = "take a network that has them, such as a ResNet, or a loss of the logits, such as kd"
_OTHER_MAPS = (
    'set stages = "last-of-size", or take a network of kdcam\'s for 32-pixel images, such as kdcam:resnet20'
)


def needs_of_stages(stages: Stages, *, last_of_size: frozenset[str] = MAP_NEEDS) -> frozenset[str]:
    """Return what a loss needs that reads these maps; ``last_of_size``: where it reads the last ones of a size."""
    return _PUBLISHED_NEEDS if stages == "published" else last_of_size


def all_maps(outputs: Outputs | TeacherOutputs, stages: Stages = "last-of-size") -> tuple[Tensor, ...]:
    """Return a network's maps (N, C, H, W), shallow to deep: the last of each size, the final one included.

    Those that are published may end before the final one, and have no activation where the published code's have none.

    Raises ``ValueError`` when there is no final map, or no published one.
    """
    if stages == "last-of-size":
        return (*outputs.stages, present(outputs.feature_map, "the last feature map"))
    if not outputs.published_stages:
        raise ValueError("this loss reads the published maps, and the step has none")
    return outputs.published_stages


def all_sizes(widths: Widths, stages: Stages = "last-of-size") -> tuple[Size, ...]:
    """Return the sizes of `all_maps`; none of a network without them."""
    if stages == "published":
        return widths.published_stages
    if widths.channels is None or widths.height is None or widths.width is None:
        return ()
    return (*widths.stages, (widths.channels, widths.height, widths.width))


# How stages are matched, and which ones published weights belong to: docs/decisions/013.
def matched_maps(
    student: Outputs, teacher: TeacherOutputs, stages: Stages = "last-of-size"
) -> list[tuple[Tensor, Tensor]]:
    """Return pairs of the student's and the teacher's maps, shallow to deep; no gradient reaches the teacher's.

    As many as the network with fewer of them has: the last ones of each size are matched from the end, published ones
    from the first, as HobbitLong/RepDistiller does.
    """
    pairs = _matched(all_maps(student, stages), all_maps(teacher, stages), stages)
    return [(first, second.detach()) for first, second in pairs]


def matched_sizes(shapes: Shapes, stages: Stages = "last-of-size") -> list[tuple[Size, Size]]:
    """Return the sizes of `matched_maps`; raises ``ValueError`` without a teacher."""
    return _matched(all_sizes(shapes.student, stages), all_sizes(teacher_widths(shapes), stages), stages)


def _matched(first: tuple[_T, ...], second: tuple[_T, ...], stages: Stages) -> list[tuple[_T, _T]]:
    if stages == "published":
        return list(zip(first, second, strict=False))
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


def why_too_few_maps(
    shapes: Shapes, stages: Stages = "last-of-size", *, least: int = 1, way_out: str = _OTHER_NETWORK
) -> str | None:
    """Return why a loss that needs ``least`` maps of student and teacher cannot work, and the way out; None: it can."""
    for who, widths in (("student", shapes.student), ("teacher", teacher_widths(shapes))):
        found = len(all_sizes(widths, stages))
        if stages == "published" and found == 0:
            return (
                f'stages: found "published", but no published table compares the {who}\'s maps; {_OTHER_MAPS}'
            )
        if found < least:
            told = f"{found} published feature maps" if stages == "published" else _told(found)
            return f"the {who} has {told}, and this loss needs {least} or more; {way_out}"
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
    "Stages",
    "all_maps",
    "all_sizes",
    "matched_maps",
    "matched_sizes",
    "needs_of_stages",
    "pool_maps_to_smaller",
    "teacher_widths",
    "why_too_few_maps",
]
