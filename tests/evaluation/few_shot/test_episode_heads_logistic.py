import numpy
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from kdcam.evaluation.few_shot.episode_heads import LogisticHeads, solve_logistic

DECAY = 0.01


@pytest.fixture
def problems() -> tuple[torch.Tensor, torch.Tensor]:
    """Eight problems of 30 images, 6 features of uneven size and 3 classes that overlap."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(3).repeat(10).expand(8, -1)
    features = torch.randn(8, 30, 6, generator=generator, dtype=torch.float64)
    features[..., :3] += torch.eye(3)[targets]
    return features * torch.tensor([5.0, 1, 1, 0.3, 1, 1]), targets


def test_equals_scikit_learn(problems: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, targets = problems
    found = solve_logistic(features, targets, num_classes=3, weight_decay=DECAY)
    assert found.converged.all()
    for one, labels, weight, bias in zip(features, targets, found.weight, found.bias, strict=True):
        reference = LogisticRegression(C=1 / (30 * DECAY), tol=1e-10, max_iter=10000)
        reference.fit(one.numpy(), labels.numpy())
        numpy.testing.assert_allclose(weight.T.numpy(), reference.coef_, atol=1e-5)
        # A number added to all biases changes no probability.
        ours, theirs = bias.numpy(), reference.intercept_
        numpy.testing.assert_allclose(ours - ours.mean(), theirs - theirs.mean(), atol=1e-5)


def test_the_gradient_is_zero_at_the_solution(problems: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, targets = problems
    found = solve_logistic(features, targets, num_classes=3, weight_decay=DECAY)
    weight, bias = (part.clone().requires_grad_() for part in found[:2])
    logits = features @ weight + bias[:, None]
    loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="sum") / 30
    (loss + DECAY / 2 * weight.square().sum()).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert float(weight.grad.abs().max()) < 1e-6
    assert float(bias.grad.abs().max()) < 1e-6


def objective(features: torch.Tensor, targets: torch.Tensor, found: LogisticHeads) -> torch.Tensor:
    logits = features @ found.weight + found.bias[:, None]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1)
    return losses + DECAY / 2 * found.weight.square().sum((1, 2))


def test_each_problem_is_solved_as_if_alone(problems: tuple[torch.Tensor, torch.Tensor]) -> None:
    features, targets = problems
    scaled = features * torch.logspace(-2, 3, 8)[:, None, None]
    together = solve_logistic(scaled, targets, num_classes=3, weight_decay=DECAY)
    assert together.converged.all()
    values = objective(scaled, targets, together)
    for index in range(8):
        one, labels = scaled[index : index + 1], targets[index : index + 1]
        alone = solve_logistic(one, labels, num_classes=3, weight_decay=DECAY)
        # Not the weights: which ones of those near the minimum are found is left to rounding.
        torch.testing.assert_close(values[index], objective(one, labels, alone)[0], rtol=1e-10, atol=0)


def test_no_features_leave_the_classes_shares() -> None:
    targets = torch.tensor([[0, 0, 0, 1]])
    found = solve_logistic(torch.zeros(1, 4, 2).double(), targets, num_classes=2, weight_decay=DECAY)
    assert not found.weight.any()
    torch.testing.assert_close(found.bias.softmax(1), torch.tensor([[0.75, 0.25]]).double())


def test_one_shot_problems_that_can_be_told_apart_without_error() -> None:
    torch.manual_seed(0)
    features = 30 * torch.randn(50, 5, 5).double()
    found = solve_logistic(features, torch.arange(5).expand(50, -1), num_classes=5, weight_decay=1e-3)
    assert found.converged.all()
    assert torch.equal(
        (features @ found.weight + found.bias[:, None]).argmax(2), torch.arange(5).expand(50, -1)
    )
