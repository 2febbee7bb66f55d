"""What every loss of LOSSES must do."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from kdcam.losses import LOSSES
from kdcam.losses.loss import LossConfig, Objective, Shapes, Step
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths
from kdcam.models.heads import CosineHead, GaussianHead, Head, UnitWeightHead

N, K, C, H, W = 6, 5, 8, 4, 4
LABELS = torch.arange(N) % K
SEVERAL = torch.tensor(
    [[1.0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [1, 0, 0, 0, 1]]
)
SHAPES = Shapes(
    "single-label",
    K,
    torch.arange(N) % K,
    Widths(C, C, H, W, stages=((4, 2 * H, 2 * W),), published_stages=((C, H, W), (C, H, W))),
    Widths(2 * C, 2 * C, H, W, stages=((6, 2 * H, 2 * W),), published_stages=((7, H, W), (2 * C, H, W))),
)


class LargestTensor(TorchDispatchMode):
    """Keeps how many elements the largest tensor had that was made meanwhile."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]  # torch's
        del types
        made = function(*arguments, **(keywords or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return made


def head_for(config: LossConfig, weight: torch.Tensor) -> Head | None:
    """Return the head that a loss needs; None: a linear layer will do."""
    if "cosine_head" in config.needs:
        return CosineHead(weight, scale=10.0)
    if "unit_weight_head" in config.needs:
        return UnitWeightHead(weight)
    return GaussianHead(weight) if "gaussian_head" in config.needs else None


def make_step(
    config: LossConfig, targets: torch.Tensor, dtype: torch.dtype = torch.float32
) -> tuple[Step, list[torch.Tensor], list[torch.Tensor]]:
    """Return a step of a network that suits the loss, the student's leaves and the teacher's leaves."""
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype).requires_grad_()

    features, weight, bias, mixer = leaf(N, C, H, W), leaf(K, C), leaf(K), leaf(C, C)
    feature_map = features.relu()
    embedding = feature_map.mean((2, 3))
    logits, attention = embedding @ weight.T + bias, (embedding @ mixer).sigmoid()
    stages = (nn.functional.interpolate(feature_map[:, :4], scale_factor=2).relu(),)
    published = (features, feature_map)
    student = Outputs(logits, embedding, feature_map, weight, bias, stages, attention, published)
    head = head_for(config, weight)
    if head is not None:
        weight, read = head.weight, head.read(embedding)
        student = Outputs(read.logits, read.embedding, feature_map, read.weight, read.bias, stages)
    teacher = TeacherOutputs(
        leaf(N, K), leaf(N, H, W), leaf(N, K, H, W), leaf(N, 2 * C, H, W), leaf(N, 2 * C),
        (leaf(N, 6, 2 * H, 2 * W),), (leaf(N, 7, H, W), leaf(N, 2 * C, H, W)),
    )  # fmt: skip
    taught = [leaf for leaf in tree_leaves(teacher) if isinstance(leaf, torch.Tensor)]
    clean = student._replace(logits=leaf(N, K)) if "clean" in config.needs else None
    return Step(student, teacher, targets, torch.arange(N), 0.9, clean), [features, weight], taught


def gradients(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    return [leaf.grad for leaf in leaves if leaf.grad is not None]


WITH_STAGES = sorted(name for name, kind in LOSSES.items() if "stages" in kind.model_fields)


@pytest.fixture(params=[*sorted(LOSSES), *(f"{name} of published maps" for name in WITH_STAGES)])
def config(request: pytest.FixtureRequest) -> LossConfig:
    name, _, published = request.param.partition(" of ")
    return LOSSES[name].model_validate({"stages": "published"} if published else {})


@pytest.fixture
def targets(config: LossConfig) -> torch.Tensor:
    """Return labels, or rows where the loss takes no labels."""
    return LABELS if "labels" in config.takes else SEVERAL


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


def test_is_a_finite_scalar(config: LossConfig, targets: torch.Tensor) -> None:
    loss = config.build(SHAPES)(make_step(config, targets)[0])
    assert loss.ndim == 0
    assert torch.isfinite(loss)


def test_gradient_reaches_student_and_own_parameters_never_teacher(
    config: LossConfig, targets: torch.Tensor
) -> None:
    torch.manual_seed(0)
    module = config.build(SHAPES)
    step, student, teacher = make_step(config, targets)
    # As in a run, where the teacher works under no_grad.
    frozen = step._replace(teacher=tree_map(torch.Tensor.detach, step.teacher))
    module(frozen).backward()
    assert any(gradient.abs().sum() > 0 for gradient in gradients(student))  # ical reads the weights alone
    assert all(leaf.grad is None for leaf in teacher)
    assert all(p.grad is not None for p in module.parameters())


def test_bfloat16_agrees_with_float32(config: LossConfig, targets: torch.Tensor) -> None:
    torch.manual_seed(0)
    exact = config.build(SHAPES)(make_step(config, targets)[0])
    torch.manual_seed(0)
    rough = config.build(SHAPES)(make_step(config, targets, torch.bfloat16)[0])
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.02)


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("labels", LABELS),
        ("mixed", torch.rand(N, K, generator=torch.Generator().manual_seed(0)).softmax(1)),
        ("multi-label", SEVERAL),
    ],
)
def test_takes_the_targets_it_says(config: LossConfig, kind: str, rows: torch.Tensor) -> None:
    if kind not in config.takes:
        return
    step, student, _ = make_step(config, rows)
    loss = config.build(SHAPES)(step)
    loss.backward()
    assert torch.isfinite(loss)
    assert gradients(student)
    assert all(torch.isfinite(gradient).all() for gradient in gradients(student))


def test_state_dict_round_trip(config: LossConfig, targets: torch.Tensor) -> None:
    first, second = config.build(SHAPES), config.build(SHAPES)
    first(make_step(config, targets)[0])  # moves what moves
    second.load_state_dict(first.state_dict())
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)


def test_unknown_key_is_refused(config: LossConfig) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        type(config).model_validate({"T": 4})


def test_objective_runs_it_and_weights_it(config: LossConfig, targets: torch.Tensor) -> None:
    objective = Objective([config], SHAPES)
    step = make_step(config, targets)[0]
    terms = objective(step)
    assert terms.weights == {config.name: config.weight}
    torch.testing.assert_close(terms.total, config.weight * terms.values[config.name])


@pytest.mark.parametrize("classes", [12, 120])
def test_makes_nothing_of_size_batch_x_batch_or_classes_x_channels(config: LossConfig, classes: int) -> None:
    if config.name == "crd":  # as many numbers an image as negatives is what it is
        config = config.model_copy(update={"negatives": 256})
    images, channels, side = 96, 48, 4  # (N, N, C) is 442,368, (N, K, C) with 120 classes 552,960
    feature_map = torch.rand(images, channels, side, side, requires_grad=True)
    weight, embedding = torch.rand(classes, channels, requires_grad=True), feature_map.mean((2, 3))
    student = Outputs(
        embedding @ weight.T, embedding, feature_map, weight, None, channel_attention=embedding.sigmoid()
    )
    wide = torch.rand(images, channels, side, side)
    stages = (feature_map[:, :8].repeat_interleave(2, 2).repeat_interleave(2, 3),)
    student = student._replace(stages=stages, published_stages=(feature_map, feature_map))
    teacher = TeacherOutputs(
        torch.rand(images, classes),
        wide[:, 0],
        wide[:, :1].expand(-1, classes, -1, -1),
        wide,
        wide.mean((2, 3)),
        stages,
        (wide, wide),
    )
    labels = torch.arange(images) % classes
    targets = labels if "labels" in config.takes else torch.nn.functional.one_hot(labels, classes).float()
    sizes = Widths(channels, channels, side, side, ((8, 2 * side, 2 * side),), (feature_map.shape[1:],) * 2)
    if config.misfit(Shapes("single-label", classes, labels, sizes, sizes)) is not None:
        pytest.skip("needs more channels than classes, or fewer classes")
    module = config.build(Shapes("single-label", classes, labels, sizes, sizes))
    with LargestTensor() as largest:
        module(Step(student, teacher, targets, torch.arange(images), 0.9, student)).backward()
    most = 2 * max(feature_map.numel(), stages[0].numel())
    if config.name == "rkd":  # it compares angles at each image of each pair of others
        most = images**3
    if config.name == "cam_kd":  # logits in each cell of its finest grid
        most = max(most, images * classes * 4**2)
    if config.name == "review_kd":  # its shared channels at the largest size, of two maps beside each other
        most = 2 * images * channels * (2 * side) ** 2
    assert 0 < largest.elements <= most


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_does_not_make_the_host_wait_for_a_gpu(config: LossConfig, targets: torch.Tensor) -> None:
    step, _, _ = make_step(config, targets)
    on_gpu = tree_map(lambda leaf: leaf.detach().cuda() if isinstance(leaf, torch.Tensor) else leaf, step)
    module = config.build(SHAPES).cuda()
    module(on_gpu)  # the first call may load kernels
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        module(on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
