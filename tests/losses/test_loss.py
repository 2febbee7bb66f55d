import pytest
import torch
from torch import nn

from kdcam.losses.caam_cam import CaamCamConfig
from kdcam.losses.cam import CamLossConfig
from kdcam.losses.cross_entropy import CrossEntropyConfig
from kdcam.losses.kd import KdConfig
from kdcam.losses.kl_to_clean import KlToCleanConfig
from kdcam.losses.loss import LossConfig, Objective, Shapes, Step, needs_of, term_names
from kdcam.models.classifier import Outputs, Widths

SHAPES = Shapes("single-label", 3, torch.arange(3), Widths(4, 4, 2, 2), None)


def step_at(progress: float) -> Step:
    torch.manual_seed(0)
    feature_map, weight = torch.rand(2, 4, 2, 2), torch.randn(3, 4)
    embedding = feature_map.mean((2, 3))
    return Step(
        Outputs(embedding @ weight.T, embedding, feature_map, weight, None),
        None,
        torch.tensor([0, 2]),
        torch.arange(2),
        progress,
    )


def test_weight_follows_start_and_warmup() -> None:
    config = KdConfig(weight=2, start=0.5, warmup=0.2)
    assert [config.weight_at(p) for p in (0, 0.49, 0.5, 0.6, 0.7, 1)] == pytest.approx([0, 0, 0, 1, 2, 2])


def test_weight_without_warmup_is_a_step() -> None:
    config = KdConfig(weight=2, start=0.5)
    assert [config.weight_at(p) for p in (0.499, 0.5, 1)] == [0, 2, 2]


def test_total_is_the_weighted_sum_of_active_terms() -> None:
    objective = Objective([CrossEntropyConfig(weight=0.5), CamLossConfig(weight=3, start=0.5)], SHAPES)
    before, after = objective(step_at(0.2)), objective(step_at(0.7))
    assert set(before.values) == {"cross_entropy"}
    torch.testing.assert_close(before.total, 0.5 * before.values["cross_entropy"])
    torch.testing.assert_close(after.total, 0.5 * after.values["cross_entropy"] + 3 * after.values["cam"])


def test_a_term_with_parameters_runs_before_its_start_with_weight_zero() -> None:
    class WithCentre(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centre = nn.Parameter(torch.ones(()))

        def forward(self, step: Step) -> torch.Tensor:
            return self.centre * step.student.logits.square().mean()

    class WithCentreConfig(LossConfig):
        name: str = "with_centre"

        def build(self, shapes: Shapes) -> nn.Module:
            return WithCentre()

    objective = Objective([CrossEntropyConfig(), WithCentreConfig(start=0.5)], SHAPES)
    terms = objective(step_at(0.1))
    terms.total.backward()
    torch.testing.assert_close(terms.total, terms.values["cross_entropy"])
    (centre,) = objective.parameters()
    assert centre.grad is not None
    assert centre.grad.item() == 0


def test_repeated_losses_are_numbered() -> None:
    configs = [KdConfig(), CrossEntropyConfig(), KdConfig(temperature=1), KdConfig()]
    assert term_names(configs) == ["kd", "cross_entropy", "kd_2", "kd_3"]


def test_terms_on_clean_images_have_names_of_their_own() -> None:
    configs = [KdConfig(images="clean"), KdConfig(), KdConfig(images="clean"), KdConfig()]
    assert term_names(configs) == ["kd_clean", "kd", "kd_clean_2", "kd_2"]


def test_a_term_on_clean_images_reads_their_outputs() -> None:
    step = step_at(0.5)
    clean = step.student._replace(logits=step.student.logits.flip(1) * 2)
    objective = Objective([CrossEntropyConfig(), CrossEntropyConfig(images="clean")], SHAPES)
    terms = objective(step._replace(clean=clean))
    expected = {"cross_entropy": step.student.logits, "cross_entropy_clean": clean.logits}
    for name, logits in expected.items():
        torch.testing.assert_close(terms.values[name], nn.functional.cross_entropy(logits, step.targets))


def test_a_term_on_clean_images_without_them_says_so() -> None:
    with pytest.raises(ValueError, match=r"the student's outputs of the clean images, and the step has none"):
        Objective([CrossEntropyConfig(images="clean")], SHAPES)(step_at(0.5))


def test_images_at_a_moment_are_those_of_the_running_terms() -> None:
    objective = Objective([CrossEntropyConfig(images="clean"), KlToCleanConfig(start=0.5)], SHAPES)
    assert objective.images_at(0.2) == {"clean"}
    assert objective.images_at(0.5) == {"clean", "trained"}


def test_usual_images_are_left_out_of_what_is_kept_so_that_older_runs_have_the_same_recipe() -> None:
    assert "images" not in CrossEntropyConfig().model_dump()
    kept = CrossEntropyConfig(images="clean").model_dump(mode="json")
    assert kept["images"] == "clean"
    assert CrossEntropyConfig.model_validate(kept).images == "clean"


def test_needs_are_the_union() -> None:
    assert needs_of([KdConfig(), CaamCamConfig()]) == {"teacher.logits", "teacher.label_cam", "feature_map"}


def test_a_teacher_loss_without_teacher_says_so() -> None:
    with pytest.raises(ValueError, match="teacher"):
        Objective([KdConfig()], SHAPES)(step_at(0.5))


def test_needs_at_a_moment_are_those_of_the_running_terms() -> None:
    objective = Objective([CrossEntropyConfig(), CaamCamConfig(start=0.5)], SHAPES)
    assert objective.needs_at(0.2) == frozenset()
    assert "teacher.label_cam" in objective.needs_at(0.5)
