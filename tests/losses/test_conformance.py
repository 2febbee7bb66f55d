"""What every loss of LOSSES must do."""

import pytest
import torch
from pydantic import ValidationError

from kdcam.losses import LOSSES
from kdcam.losses.loss import LossConfig, Objective, Shapes, Step, Widths
from kdcam.models.classifier import Outputs, TeacherOutputs

N, K, C, H, W = 6, 5, 8, 4, 4
SHAPES = Shapes("single-label", K, torch.arange(N) % K, Widths(C, C, H, W), Widths(2 * C, 2 * C, H, W))


def make_step(
    dtype: torch.dtype = torch.float32, targets: torch.Tensor | None = None
) -> tuple[Step, list[torch.Tensor], list[torch.Tensor]]:
    """Return a step, the student's leaves and the teacher's leaves."""
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype).requires_grad_()

    features, weight, bias = leaf(N, C, H, W), leaf(K, C), leaf(K)
    feature_map = features.relu()
    embedding = feature_map.mean((2, 3))
    student = Outputs(embedding @ weight.T + bias, embedding, feature_map, weight, bias)
    logits, label_cam = leaf(N, K), leaf(N, H, W)
    teacher = TeacherOutputs(logits=logits, label_cam=label_cam)
    labels = torch.arange(N) % K if targets is None else targets
    return Step(student, teacher, labels, torch.arange(N), 0.9), [features, weight], [logits, label_cam]


@pytest.fixture(params=sorted(LOSSES))
def config(request: pytest.FixtureRequest) -> LossConfig:
    return LOSSES[request.param]()


def test_name_is_the_tables(config: LossConfig) -> None:
    assert LOSSES[config.name] is type(config)


def test_has_a_card(config: LossConfig) -> None:
    card = type(config).__doc__ or ""
    for part in (
        ("Equation", "Where it fails", "Constants")
        if config.name != "cross_entropy"
        else ("Equation", "Constants")
    ):
        assert part in card


def test_is_a_finite_scalar(config: LossConfig) -> None:
    loss = config.build(SHAPES)(make_step()[0])
    assert loss.ndim == 0
    assert torch.isfinite(loss)


def test_gradient_reaches_student_and_own_parameters_never_teacher(config: LossConfig) -> None:
    torch.manual_seed(0)
    module = config.build(SHAPES)
    step, student, teacher = make_step()
    # As in a run, where the teacher works under no_grad.
    frozen = step._replace(
        teacher=TeacherOutputs(*(t.detach() if isinstance(t, torch.Tensor) else t for t in step.teacher))
    )  # type: ignore[union-attr]
    module(frozen).backward()
    assert student[0].grad is not None
    assert student[0].grad.abs().sum() > 0
    assert all(leaf.grad is None for leaf in teacher)
    assert all(p.grad is not None for p in module.parameters())


def test_bfloat16_agrees_with_float32(config: LossConfig) -> None:
    torch.manual_seed(0)
    exact = config.build(SHAPES)(make_step()[0])
    torch.manual_seed(0)
    rough = config.build(SHAPES)(make_step(torch.bfloat16)[0])
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.02)


def test_takes_the_targets_it_says(config: LossConfig) -> None:
    if "mixed" in config.takes:
        rows = torch.rand(N, K).softmax(1)
        assert torch.isfinite(config.build(SHAPES)(make_step(targets=rows)[0]))


def test_state_dict_round_trip(config: LossConfig) -> None:
    first, second = config.build(SHAPES), config.build(SHAPES)
    second.load_state_dict(first.state_dict())


def test_unknown_key_is_refused(config: LossConfig) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(config).model_validate({"T": 4})


def test_objective_runs_it_and_weights_it(config: LossConfig) -> None:
    objective = Objective([config], SHAPES)
    step = make_step()[0]
    terms = objective(step)
    assert terms.weights == {config.name: config.weight}
    torch.testing.assert_close(terms.total, config.weight * terms.values[config.name])
