"""Explanation matching: the student's map of the class that the teacher predicts resembles the teacher's."""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kdcam.cam.maps import pool_to_smaller, target_cam
from kdcam.losses.loss import LossConfig, Shapes, Step, present, teacher_of
from kdcam.runtime.numerics import unit_rows, wide


class ExplanationMatchConfig(LossConfig):
    """Explanation matching, e2KD (Parchami-Araghi et al., "Good Teachers Explain: Explanation-Enhanced Knowledge
    Distillation", ECCV 2024, arXiv 2402.03119): teacher and student give like explanations of the teacher's prediction.

    Idea: equal logits can have unlike reasons. A student that looks where the teacher looks is right for its reasons.

    Equation: L = mean_n [ 1 - cos( E_teacher,n , E_student,n ) ], with E = max(0, M) and M the class activation map of
    the class that the teacher predicts, in both networks. m-parchami/GoodTeachersExplain takes Grad-CAM cut off at 0
    for ordinary networks, which with an exact CAM is E but for a factor. Here M has the class's bias (theirs has not),
    and the larger map is average-pooled to the smaller (theirs are enlarged to the image).

    When it helps: beside kd. Published: more agreement with the teacher, above all with few images, and explanations
    that stay the teacher's. No labels are read.

    Where it fails: both networks need an exact CAM and the same classes in the same order. A map that is nowhere above
    0 has cosine 0 and no gradient; kd beside it brings the class back. The term says nothing of how large logits are.

    Constants: weight 1 is the default of GoodTeachersExplain; its search has 1, 5 and 10 for ordinary networks (0.2,
    too, for B-cos ones) beside 1 or 0.5 of kd at temperature 1 or 5, without cross_entropy.
    """

    name: Literal["explanation_match"] = "explanation_match"

    needs: ClassVar[frozenset[str]] = frozenset({"cam", "teacher.class_cams", "teacher.logits"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return ExplanationMatch()


def explanation_match_loss(student_cam: Tensor, teacher_cam: Tensor) -> Tensor:
    """Return 1 less the mean cosine of two maps' parts above 0, a scalar in [0, 1].

    ``student_cam`` is (N, H, W), ``teacher_cam`` (N, H', W'), of one class an image.
    Source: Parchami-Araghi et al. 2024 (arXiv 2402.03119).
    """
    student, teacher = pool_to_smaller(wide(student_cam).relu(), wide(teacher_cam).relu())
    return 1 - (unit_rows(student.flatten(1)) * unit_rows(teacher.flatten(1))).sum(1).mean()


class ExplanationMatch(nn.Module):
    """`explanation_match_loss` of both networks' maps of the class that the teacher predicts."""

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        feature_map = present(step.student.feature_map, "the student's feature map")
        weight = present(step.student.weight, "the student's classifier weight")
        teacher_cams = present(teacher_of(step).class_cams, "the teacher's class activation maps")
        predicted = present(teacher_of(step).logits, "the teacher's logits").argmax(1)
        student_cam = target_cam(feature_map, weight, predicted)
        if step.student.bias is not None:
            student_cam = student_cam + wide(step.student.bias)[predicted][:, None, None]
        teacher_cam = teacher_cams[torch.arange(len(predicted), device=predicted.device), predicted]
        return explanation_match_loss(student_cam, teacher_cam)


__all__ = ["ExplanationMatch", "ExplanationMatchConfig", "explanation_match_loss"]
