"""What all margins share; values and gradients of every angular loss beside pytorch-metric-learning's."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as reference
from torch import Tensor, nn

from kdcam.losses.arcface import arcface, arcface_margin
from kdcam.losses.asoftmax import ASoftmaxConfig, asoftmax
from kdcam.losses.cosface import cosface, cosface_margin
from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.losses.lsoftmax import LSoftmaxConfig, lsoftmax
from kdcam.losses.normface import normface
from kdcam.losses.shared.angular_margins import (
    Annealing,
    annealed_angle,
    check_annealing,
    label_angles,
    margin_cross_entropy,
    multiplied_angle,
)
from kdcam.models.classifier import Outputs, Widths

K, E = 4, 5
Head = Callable[[Tensor, Tensor], Outputs]


def linear_outputs(embedding: Tensor, weight: Tensor, bias: Tensor | None = None) -> Outputs:
    logits = F.linear(embedding, weight, bias)
    return Outputs(logits, embedding, None, weight, bias)


def cosine_outputs(embedding: Tensor, weight: Tensor, scale: float = 64.0) -> Outputs:
    return linear_outputs(F.normalize(embedding), scale * F.normalize(weight))


def unit_weight_outputs(embedding: Tensor, weight: Tensor) -> Outputs:
    return linear_outputs(embedding, F.normalize(weight))


def at_angles(angles: Tensor, weight: Tensor, targets: Tensor, lengths: Tensor | float = 1.0) -> Tensor:
    """Return embeddings (N, E) at given angles to their labels' weights, in random planes."""
    generator = torch.Generator().manual_seed(1)
    along = F.normalize(weight)[targets]
    aside = torch.randn(along.shape, generator=generator, dtype=weight.dtype)
    aside = F.normalize(aside - (aside * along).sum(1, keepdim=True) * along)
    return lengths * (angles.cos()[:, None] * along + angles.sin()[:, None] * aside)


def random_weight(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(K, E, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


LOSSES: dict[str, tuple[Head, Callable[[Outputs, Tensor], Tensor]]] = {
    "normface": (cosine_outputs, normface),
    "cosface": (cosine_outputs, partial(cosface, margin=0.35)),
    "arcface": (cosine_outputs, partial(arcface, margin=0.5)),
    "lsoftmax": (linear_outputs, partial(lsoftmax, margin=4, annealing=0.0)),
    "asoftmax": (unit_weight_outputs, partial(asoftmax, margin=4, annealing=0.0)),
}
every_loss = pytest.mark.parametrize(("head", "loss"), LOSSES.values(), ids=LOSSES)


REFERENCES: dict[str, tuple[Head, Callable[[Outputs, Tensor], Tensor], Callable[[], nn.Module]]] = {
    "normface": (*LOSSES["normface"], lambda: reference.NormalizedSoftmaxLoss(K, E, temperature=1 / 64)),
    "cosface": (*LOSSES["cosface"], lambda: reference.CosFaceLoss(K, E, margin=0.35, scale=64)),
    "arcface": (*LOSSES["arcface"], lambda: reference.ArcFaceLoss(K, E, margin=math.degrees(0.5), scale=64)),
    "arcface-60-degrees": (
        cosine_outputs,
        partial(arcface, margin=math.pi / 3),
        lambda: reference.ArcFaceLoss(K, E, margin=60, scale=64),
    ),
    "lsoftmax": (*LOSSES["lsoftmax"], lambda: reference.LargeMarginSoftmaxLoss(K, E, margin=4, scale=1)),
    "lsoftmax-3": (
        linear_outputs,
        partial(lsoftmax, margin=3, annealing=0.0),
        lambda: reference.LargeMarginSoftmaxLoss(K, E, margin=3, scale=1),
    ),
    "asoftmax": (*LOSSES["asoftmax"], lambda: reference.SphereFaceLoss(K, E, margin=4, scale=1)),
}


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # the reference's constructors
@pytest.mark.parametrize(("head", "loss", "build"), REFERENCES.values(), ids=REFERENCES)
def test_values_and_gradients_are_the_references(
    head: Head, loss: Callable[[Outputs, Tensor], Tensor], build: Callable[[], nn.Module]
) -> None:
    # From 0.02 to pi - 0.02, so past pi - margin and in every interval of k. At 0 and pi themselves the slope of the
    # reference's acos is infinite (version 2.9.0), and what comes of it hangs on the release of torch; see below.
    angles, targets = torch.linspace(0.02, math.pi - 0.02, 47, dtype=torch.float64), torch.arange(47) % K
    weight = random_weight()
    lengths = torch.linspace(0.3, 4.0, 47, dtype=torch.float64)[:, None]
    embedding, other = at_angles(angles, weight, targets, lengths), build()
    for sample in [slice(None), *(slice(n, n + 1) for n in range(47))]:  # one by one: none hides in the mean
        x, w = embedding[sample].clone().requires_grad_(), weight.clone().requires_grad_()
        value = loss(head(x, w), targets[sample])
        found = torch.autograd.grad(value, (x, w))
        other.W.data = weight.T.clone()  # type: ignore[union-attr,operator]  # the reference's (E, K)
        y = embedding[sample].clone().requires_grad_()
        expected = other(y, targets[sample])
        gradients = torch.autograd.grad(expected, (y, other.W))  # type: ignore[arg-type]
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found[0], gradients[0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found[1], gradients[1].T, rtol=1e-10, atol=1e-10)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [1.0, 1000.0])
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["angle-0", "angle-pi"])
def test_gradients_are_finite_at_0_and_pi(
    head: Head, loss: Callable[[Outputs, Tensor], Tensor], dtype: torch.dtype, size: float, sign: float
) -> None:
    targets = torch.arange(K)
    whole = torch.tensor([[4.0, 0, 0, 0, 0], [0, 2, 0, 0, 0], [1, 2, 3, 4, 5], [0, 0, 0, 1, 1]]).to(dtype)
    weight = (size * whole).requires_grad_()
    embedding = (sign * whole).requires_grad_()
    outputs = head(embedding, weight)
    value = loss(outputs._replace(logits=size * outputs.logits), targets)
    value.backward()
    assert torch.isfinite(value)
    for leaf in (embedding, weight):
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_an_embedding_and_a_weight_of_zero_are_finite(
    head: Head, loss: Callable[[Outputs, Tensor], Tensor], dtype: torch.dtype
) -> None:
    weight, embedding = random_weight(dtype), torch.ones(3, E, dtype=dtype)
    weight[1], embedding[0] = 0, 0
    weight.requires_grad_()
    embedding.requires_grad_()
    outputs = head(embedding, weight)
    value = loss(outputs, torch.tensor([0, 1, 2]))
    value.backward()
    assert torch.isfinite(value)
    assert embedding.grad is not None
    assert weight.grad is not None
    assert torch.isfinite(embedding.grad).all()
    assert torch.isfinite(weight.grad).all()
    lone = loss(head(torch.zeros(1, E, dtype=dtype), weight), torch.tensor([0]))
    assert lone.item() == pytest.approx(math.log(K), abs=1e-2)  # all logits are 0: the margin has no length


def test_weights_of_zero_get_the_gradient_of_plain_cross_entropy() -> None:
    embedding, targets = torch.rand(6, E, dtype=torch.float64), torch.arange(6) % K
    weight = torch.zeros(K, E, dtype=torch.float64, requires_grad=True)
    lsoftmax(linear_outputs(embedding, weight), targets, margin=4, annealing=0.0).backward()
    plain = torch.zeros(K, E, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.cross_entropy(embedding @ plain.T, targets).backward()
    torch.testing.assert_close(weight.grad, plain.grad)


@every_loss
def test_gradient_agrees_with_finite_differences(
    head: Head, loss: Callable[[Outputs, Tensor], Tensor]
) -> None:
    targets, weight = torch.arange(9) % K, random_weight().requires_grad_()
    angles = torch.linspace(0.2, 3.0, 9, dtype=torch.float64)
    embedding = at_angles(angles, weight.detach(), targets, 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: loss(head(x, w), targets), (embedding, weight))


@every_loss
def test_bfloat16_and_autocast_agree_with_float32(
    head: Head, loss: Callable[[Outputs, Tensor], Tensor]
) -> None:
    targets, weight = torch.arange(9) % K, random_weight(torch.float32)
    embedding = at_angles(torch.linspace(0.2, 3.0, 9), weight, targets)
    outputs = head(embedding, weight)
    exact = loss(outputs, targets)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(outputs, targets), exact)
    rough = Outputs(*(t.bfloat16() if isinstance(t, Tensor) else t for t in outputs))
    torch.testing.assert_close(loss(rough, targets), exact, rtol=0.02, atol=0.02)


MARGINS: dict[str, Callable[[Tensor], Tensor]] = {
    "cosface": partial(cosface_margin, margin=0.35),
    **{f"arcface-{m:.2f}": partial(arcface_margin, margin=m) for m in (0.0, 0.1, 0.5, 1.0, math.pi / 2)},
    **{f"psi-{m}": partial(multiplied_angle, margin=m) for m in (1, 2, 3, 4, 5, 9)},
    "annealed": partial(annealed_angle, margin=4, annealing=5.0),
}
STEP = math.pi / 20000


@pytest.mark.parametrize("margin", MARGINS.values(), ids=MARGINS)
def test_margins_fall_all_the_way_and_never_help(margin: Callable[[Tensor], Tensor]) -> None:
    angles = torch.arange(20001, dtype=torch.float64) * STEP
    values = margin(angles.cos())
    assert (values.diff() < 0).all()
    assert (values <= angles.cos() + 1e-15).all()


@pytest.mark.parametrize("margin", [1, 2, 3, 4, 5, 9])
def test_psi_is_its_definition_and_continuous(margin: int) -> None:
    angles = torch.arange(20001, dtype=torch.float64) * STEP
    turns = (angles * margin / math.pi).floor()
    expected = (1 - 2 * (turns % 2)) * (margin * angles).cos() - 2 * turns
    found = multiplied_angle(angles.cos(), margin)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert (found.diff().abs() <= margin * STEP).all()
    assert multiplied_angle(torch.tensor([1.0, -1.0]), margin).tolist() == [1, 1 - 2 * margin]


def test_psi_hand_worked() -> None:
    # 60 degrees, margin 4: 240 degrees lie in k = 1, so -cos 240 - 2 = 0.5 - 2. 90 degrees: k = 2, cos 360 - 4.
    # 120 degrees, margin 2: 240 degrees lie in k = 1.
    assert multiplied_angle(torch.tensor([0.5]), 4).tolist() == [-1.5]
    assert multiplied_angle(torch.tensor([-1e-9]), 4).tolist() == [-3.0]
    assert multiplied_angle(torch.tensor([-0.5]), 2).tolist() == [-1.5]


def test_annealing_goes_from_the_cosine_to_psi() -> None:
    cosines = torch.tensor([0.5])
    assert annealed_angle(cosines, margin=4, annealing=0.0).tolist() == [-1.5]
    assert annealed_angle(cosines, margin=4, annealing=3.0).item() == pytest.approx((3 * 0.5 - 1.5) / 4)
    assert annealed_angle(cosines, margin=4, annealing=1e9).item() == pytest.approx(0.5)


def test_lengths_and_cosines() -> None:
    embedding = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]])
    weight = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    angles = label_angles(embedding, weight, torch.tensor([0, 0, 1]))
    assert angles.lengths.tolist() == [5, 0, 10]
    assert angles.cosines.tolist() == pytest.approx([0.6, 0, -1])
    half = label_angles(embedding.bfloat16(), weight.bfloat16(), torch.tensor([0, 0, 1]))
    assert half.cosines.dtype == half.lengths.dtype == torch.float32
    torch.testing.assert_close(half.cosines, angles.cosines)  # these numbers are exact in bfloat16


def test_the_bias_stays_outside_the_angle_and_other_logits_stay() -> None:
    # Length 5, cosine 0.6, margin 0.2 off: 2; the other class has 4.
    embedding, weight = torch.tensor([[3.0, 4.0]]), torch.eye(2)
    outputs = linear_outputs(embedding, weight, torch.tensor([0.5, -0.25]))
    before = outputs.logits.clone()
    value = margin_cross_entropy(outputs, torch.tensor([0]), lambda cosines: cosines - 0.2)
    assert value.item() == pytest.approx(math.log1p(math.exp((4 - 0.25) - (2 + 0.5))))
    assert torch.equal(outputs.logits, before)


def test_without_a_margin_it_is_cross_entropy_under_every_head() -> None:
    targets, weight = torch.arange(9) % K, random_weight()
    embedding = at_angles(torch.linspace(0.2, 3.0, 9, dtype=torch.float64), weight, targets, 2.0)
    bias = torch.tensor([0.1, 0.2, -0.3, 0.0], dtype=torch.float64)
    for outputs in (
        linear_outputs(embedding, weight, bias),
        cosine_outputs(embedding, weight),
        unit_weight_outputs(embedding, weight),
    ):
        value = margin_cross_entropy(outputs, targets, lambda cosines: cosines)
        torch.testing.assert_close(value, F.cross_entropy(outputs.logits, targets))


def test_a_head_without_a_weight_is_refused() -> None:
    outputs = Outputs(torch.zeros(1, K), torch.zeros(1, E), None, None, None)
    with pytest.raises(ValueError, match="reads the classifier's weight, and the step has none"):
        normface(outputs, torch.tensor([0]))


def test_annealing_hand_worked() -> None:
    annealing = Annealing(1000.0, gamma=0.12, power=1.0, floor=5.0)
    assert [annealing().item() for _ in range(3)] == pytest.approx([1000 / 1.12, 1000 / 1.24, 1000 / 1.36])
    annealing.iterations.fill_(1657)
    assert annealing().item() == pytest.approx(1000 / 199.96)
    assert annealing().item() == 5  # 1000 / 200.08 is below the floor
    steep = Annealing(1000.0, gamma=2.5e-5, power=35.0, floor=0.0)
    steep.iterations.fill_(9999)
    assert steep().item() == pytest.approx(1000 * 1.25**-35, rel=1e-5)


def test_evaluation_does_not_count() -> None:
    annealing = Annealing(1000.0, gamma=1.0, power=1.0, floor=0.0)
    annealing()
    annealing.eval()
    assert [annealing().item() for _ in range(2)] == [500, 500]
    assert annealing.iterations.item() == 1


@pytest.mark.parametrize("config", [LSoftmaxConfig(anneal_gamma=0.03), ASoftmaxConfig(anneal_gamma=0.5)])
def test_a_run_that_is_resumed_goes_on_as_if_it_had_not_stopped(config: LossConfig) -> None:
    shapes = Shapes("single-label", K, torch.arange(K), Widths(E, E, 1, 1), None)
    weight, targets = random_weight(torch.float32), torch.arange(K)
    outputs = unit_weight_outputs(at_angles(torch.linspace(0.5, 2.5, K), weight, targets), weight)
    step = Step(outputs, None, targets, targets, 0.5)
    whole, first, second = (config.build(shapes) for _ in range(3))
    expected = [whole(step).item() for _ in range(6)]
    found = [first(step).item() for _ in range(3)]
    second.load_state_dict(first.state_dict())
    found += [second(step).item() for _ in range(3)]
    assert found == expected
    assert len(set(expected)) == 6


def test_a_floor_above_the_base_is_refused() -> None:
    with pytest.raises(ValueError, match="anneal_base = 0 lies below anneal_floor = 5"):
        check_annealing(0.0, 5.0)
    check_annealing(5.0, 5.0)
