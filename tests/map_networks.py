"""Outputs of made-up networks that tell maps of several depths, for the losses that compare them."""

import torch
from torch import Tensor

from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths

Size = tuple[int, int, int]

STUDENT: tuple[Size, ...] = ((4, 8, 8), (6, 4, 4))
TEACHER: tuple[Size, ...] = ((3, 16, 16), (5, 8, 8), (12, 4, 4))
NO_MAP = Widths(8, None, None, None)


def widths(sizes: tuple[Size, ...], *, published: tuple[Size, ...] = ()) -> Widths:
    """Return the widths of a network whose embedding is the pooled last map."""
    return Widths(sizes[-1][0], *sizes[-1], sizes[:-1], published)


def shapes(student: tuple[Size, ...] = STUDENT, teacher: tuple[Size, ...] = TEACHER) -> Shapes:
    return Shapes("single-label", 3, torch.arange(3), widths(student), widths(teacher))


def published_shapes(student: tuple[Size, ...], teacher: tuple[Size, ...]) -> Shapes:
    """Return the shapes of two networks of which published tables compare maps of these sizes."""
    return shapes()._replace(
        student=widths(STUDENT, published=student), teacher=widths(TEACHER, published=teacher)
    )


def maps(sizes: tuple[Size, ...], seed: int, *, images: int = 5) -> list[Tensor]:
    """Return leaves (N, C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, *size, generator=generator).requires_grad_() for size in sizes]


def step_of(student_maps: list[Tensor], teacher_maps: list[Tensor]) -> Step:
    """Return a step of two networks with these maps, shallow to deep."""
    *stages, last = student_maps
    *teacher_stages, teacher_last = teacher_maps
    embedding = last.mean((2, 3))
    student = Outputs(embedding, embedding, last, None, None, stages=tuple(stages))
    teacher = TeacherOutputs(
        feature_map=teacher_last, embedding=teacher_last.mean((2, 3)), stages=tuple(teacher_stages)
    )
    images = len(last)
    return Step(student, teacher, torch.zeros(images, dtype=torch.int64), torch.arange(images), 0.5)


def published_step(student_maps: list[Tensor], teacher_maps: list[Tensor]) -> Step:
    """Return a step of two networks of which published tables compare these maps, with others beside them."""
    step = step_of(maps(STUDENT, 98), maps(TEACHER, 99))
    assert step.teacher is not None
    return step._replace(
        student=step.student._replace(published_stages=tuple(student_maps)),
        teacher=step.teacher._replace(published_stages=tuple(teacher_maps)),
    )
