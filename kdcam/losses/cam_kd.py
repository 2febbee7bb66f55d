"""Knowledge distillation in each cell of the class activation maps: what the teacher sees, and where."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator
from torch import Tensor, nn

from kdcam.losses.kd import kd_loss
from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.losses.shared.coarse_cams import coarse_student_cams, coarse_teacher_cams, smallest_side
from kdcam.settings.messages import listed


class CamKdConfig(LossConfig):
    """Knowledge distillation of class activation maps (kdcam's own): in each cell of coarse grids the student's
    softened prediction follows the teacher's.

    Idea: with an exact class activation map (CAM) each position has logits of its own, and their mean is the image's
    logits. kd on the mean alone leaves open where the evidence comes from; kd in each cell hands on both. It differs
    from caam_cam by the classes' maps (all, not the label's alone), by no normalisation (a map's height counts, not its
    shape alone), and by the student's classifier, which learns from it.

    Equation: L = mean over grids r of T^2 * mean_n,p KL( softmax(A_teacher,r(p) / T) || softmax(A_student,r(p) / T) ),
    with A_r the CAMs of all classes, biases included, pooled to r x r cells p; r = 1 is plain kd.
    The mean over a grid's cells is the logits only where r divides the map's sides; elsewhere (2 x 2 on 7 x 7) cells
    overlap, and the positions that they share count more than once.

    When it helps: in place of kd, wherever both networks have an exact CAM. resnet20 -> resnet8 on 5,000 images of
    CIFAR-10: see docs/results/distillation.md, where its weight was chosen on validation and kd's was not; kd at weight
    2.7 was 1.1 points better than at its own there (one seed).

    Where it fails: teacher and student must have the same classes in the same order, and a last map of as many cells as
    the finest grid.

    Constants: grids 1, 2, 4 and temperature 4 are those of Scale Decoupled Distillation (Wei et al., CVPR 2024, arXiv
    2403.13512; shicaiwei123/SDD-CVPR2024), which takes the mean over all cells of all grids at once and doubles the
    cells where the teacher is right in the whole and wrong in the cell, or the other way round. Here each grid counts
    alike and no label is read, so that mixed labels are fine. Weight 2.7
    (0.9 a grid) beside 0.1 of cross_entropy is kdcam's choice.
    """

    name: Literal["cam_kd"] = "cam_kd"
    weight: float = Field(2.7, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    temperature: float = Field(
        4.0, gt=0, allow_inf_nan=False, description="both networks' logits are divided by it; 1: not softened"
    )
    grids: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 2, 4), min_length=1, description="cells on a side of each grid; 1: the image's logits"
    )

    trains_classifier: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"cam", "teacher.class_cams"})
    takes_one_place: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    @field_validator("grids")
    @classmethod
    def _differ(cls, grids: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(grids)) < len(grids):
            raise ValueError(
                f"found {listed(map(str, grids))}; each grid counts once, so leave the repeated ones out"
            )
        return grids

    def misfit(self, shapes: Shapes) -> str | None:
        """Return why the loss cannot work with these sizes, and the way out; None where it can."""
        smallest = smallest_side(shapes)
        if smallest is None or smallest[1] >= max(self.grids):
            return None
        name, side = smallest
        return (
            f"grids go up to {max(self.grids)}, more than the {side} positions on the shorter side of the {name}'s "
            f"map; leave out those above {side}, or set a larger data.image_size"
        )

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return CamKd(self.temperature, self.grids)


def cam_kd_loss(student_cams: Tensor, teacher_cams: Tensor, *, temperature: float) -> Tensor:
    """Return T^2 times the mean over samples and cells of KL(teacher || student) at temperature T, a scalar >= 0.

    Both are (N, K, r, r), biases included, so that their means are the logits where r divides the map's sides. With
    r = 1 it is `kd_loss`.
    """
    student, teacher = (
        cams.flatten(2).transpose(1, 2).flatten(0, 1) for cams in (student_cams, teacher_cams)
    )
    return kd_loss(student, teacher, temperature=temperature)


class CamKd(nn.Module):
    """The mean over grids of `cam_kd_loss` of the student's and the teacher's class activation maps."""

    def __init__(self, temperature: float, grids: tuple[int, ...]) -> None:
        super().__init__()
        self.temperature = temperature
        self.grids = grids

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        losses = [
            cam_kd_loss(
                coarse_student_cams(step, grid), coarse_teacher_cams(step, grid), temperature=self.temperature
            )
            for grid in self.grids
        ]
        return sum(losses[1:], start=losses[0]) / len(losses)


__all__ = ["CamKd", "CamKdConfig", "cam_kd_loss"]
