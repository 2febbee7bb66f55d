import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from kdcam.losses.include_exclude import IncludeExcludeConfig, include_exclude
from kdcam.losses.loss import Shapes, Step
from kdcam.losses.shared.class_centers import LearnedCenters
from kdcam.models.classifier import Outputs, Widths

# Embeddings of width 2; mean squared differences from (1, 0) to the centres: 0.5, 1 and 2.5.
EMBEDDING = torch.tensor([[1.0, 0.0]])
CENTERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [-1.0, 1.0]])
SEEN = torch.ones(3, dtype=torch.bool)
NEAR, FAR = 0.5, (1.0 + 2.5) / 2


def value(targets: Tensor, **changes: object) -> float:
    arguments: dict[str, object] = {"form": "hinge", "margin": 0.9, "bandwidth": 1.0}
    seen = changes.pop("seen", SEEN)
    assert isinstance(seen, Tensor)
    return include_exclude(EMBEDDING, CENTERS, seen, targets, **(arguments | changes)).item()  # type: ignore[arg-type]


@pytest.mark.parametrize("bandwidth", [1.0, 2.0])
def test_hinge_hand_worked(bandwidth: float) -> None:
    expected = 0.9 - math.exp(-NEAR / bandwidth) + math.exp(-FAR / bandwidth)
    assert value(torch.tensor([0]), bandwidth=bandwidth) == pytest.approx(expected)


def test_log_ratio_hand_worked() -> None:
    include, exclude = math.exp(-NEAR), math.exp(-FAR)
    expected = -math.log(include / (include + math.exp(0.9) * exclude))
    assert value(torch.tensor([0]), form="log-ratio") == pytest.approx(expected)


def test_a_margin_that_is_kept_costs_nothing() -> None:
    assert value(torch.tensor([0]), margin=0.1) == 0


def test_classes_without_a_centre_count_neither_way() -> None:
    seen = torch.tensor([True, True, False])
    expected = 0.9 - math.exp(-0.5) + math.exp(-1.0)
    assert value(torch.tensor([0]), seen=seen) == pytest.approx(expected)
    assert value(torch.tensor([2]), seen=seen) == 0
    assert value(torch.tensor([0]), seen=torch.tensor([True, False, False])) == 0


def test_wide_embeddings_do_not_underflow() -> None:
    torch.manual_seed(0)
    embedding = torch.randn(8, 2048, requires_grad=True)
    loss = include_exclude(
        embedding,
        torch.randn(5, 2048),
        torch.ones(5, dtype=torch.bool),
        torch.arange(8) % 5,
        form="hinge",
        margin=0.5,
        bandwidth=1.0,
    )
    loss.backward()
    assert embedding.grad is not None
    assert embedding.grad.abs().sum() > 1e-4


@pytest.mark.parametrize("form", ["hinge", "log-ratio"])
def test_gradient_agrees_with_finite_differences(form: str) -> None:
    torch.manual_seed(0)
    embedding = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    centers = torch.rand(5, 3, dtype=torch.float64, requires_grad=True)
    targets, seen = torch.tensor([0, 2, 4, 0]), torch.tensor([True, True, True, False, True])

    def loss(one: Tensor, other: Tensor) -> Tensor:
        return include_exclude(one, other, seen, targets, form=form, margin=0.8, bandwidth=0.5)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(loss, (embedding, centers))


def test_moved_centres_have_no_gradient_and_learned_ones_do() -> None:
    shapes = Shapes("single-label", 3, torch.arange(3), Widths(4, 4, 2, 2), None)
    embedding = torch.rand(6, 4, requires_grad=True)
    step = Step(
        Outputs(embedding, embedding, None, None, None), None, torch.arange(6) % 3, torch.arange(6), 0.5
    )
    moved = IncludeExcludeConfig().build(shapes)
    assert not list(moved.parameters())
    moved(step).backward()
    learned = IncludeExcludeConfig(centers="learned").build(shapes)
    learned(step).backward()
    (centers,) = learned.parameters()
    assert centers.grad is not None
    assert centers.grad.abs().sum() > 0
    assert isinstance(learned.get_submodule("centers"), LearnedCenters)


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"margin": 1.5}, "margin = 1.5"),
        ({"centers": "learned", "center_rate": 0.1}, "center_rate = 0.1 is of moved centres"),
    ],
)
def test_settings_that_do_nothing_are_refused(keys: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        IncludeExcludeConfig.model_validate(keys)
    assert IncludeExcludeConfig(margin=1.5, form="log-ratio").margin == 1.5
