import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from kdcam.losses.lgm import LgmConfig, lgm
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, Widths

TARGETS = torch.tensor([0, 2, 1, 1, 0])


def head(embedding: Tensor, means: Tensor) -> Tensor:
    """Return the logits of the gaussian head: half the squared distances but for what all classes share."""
    return embedding @ means.T - means.square().sum(1) / 2


def distances(embedding: Tensor, means: Tensor) -> Tensor:
    return (embedding[:, None] - means).square().sum(2) / 2


def example(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 4, generator=generator).to(dtype), torch.randn(3, 4, generator=generator).to(dtype)


def test_hand_worked_value() -> None:
    # From (1, 0) half the squared distances to the means (0, 0) and (1, 2) are 1 / 2 and 2.
    embedding, means = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    logits = head(embedding, means)
    assert logits.tolist() == [[0.0, -1.5]]
    loss = lgm(logits, embedding, means, torch.tensor([0]), margin=0.4, likelihood_weight=0.1)
    own, other = 1.4 * 0.5, 2.0
    assert loss.item() == pytest.approx(math.log(1 + math.exp(own - other)) + 0.1 * 0.5)


def test_without_margin_and_likelihood_it_is_cross_entropy_of_the_distances() -> None:
    embedding, means = example()
    loss = lgm(head(embedding, means), embedding, means, TARGETS, margin=0.0, likelihood_weight=0.0)
    torch.testing.assert_close(loss, F.cross_entropy(-distances(embedding, means), TARGETS))
    torch.testing.assert_close(loss, F.cross_entropy(head(embedding, means), TARGETS))


def test_value_and_gradients_equal_the_distances_written_out() -> None:
    def naive(embedding: Tensor, means: Tensor) -> Tensor:
        each = distances(embedding, means)
        factor = 1 + 0.3 * F.one_hot(TARGETS, 3)
        likelihood = each.gather(1, TARGETS[:, None]).mean()
        return F.cross_entropy(-each * factor, TARGETS) + 0.1 * likelihood

    def ours(embedding: Tensor, means: Tensor) -> Tensor:
        logits = head(embedding, means)
        return lgm(logits, embedding, means, TARGETS, margin=0.3, likelihood_weight=0.1)

    leaves = [leaf.requires_grad_() for leaf in example()]
    torch.testing.assert_close(ours(*leaves), naive(*leaves))
    expected = torch.autograd.grad(naive(*leaves), leaves)
    for found, wanted in zip(torch.autograd.grad(ours(*leaves), leaves), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_what_all_classes_share_in_the_logits_does_not_matter() -> None:
    embedding, means = example()
    values = [
        lgm(logits, embedding, means, TARGETS, margin=0.3, likelihood_weight=0.1)
        for logits in (head(embedding, means), -distances(embedding, means))
    ]
    torch.testing.assert_close(*values)


def test_the_margin_costs_where_it_is_not_kept() -> None:
    embedding, means = example()
    values = [
        lgm(head(embedding, means), embedding, means, TARGETS, margin=margin, likelihood_weight=0.0)
        for margin in (0.0, 0.1, 1.0)
    ]
    assert values[0] < values[1] < values[2]


def test_gradient_agrees_with_finite_differences() -> None:
    leaves = [leaf.requires_grad_() for leaf in example()]

    def loss(embedding: Tensor, means: Tensor) -> Tensor:
        return lgm(head(embedding, means), embedding, means, TARGETS, margin=0.3, likelihood_weight=0.1)

    assert torch.autograd.gradcheck(loss, leaves)


def test_saturated_logits_give_finite_gradients() -> None:
    embedding, means = (leaf.mul(1000).requires_grad_() for leaf in example(torch.float32))
    loss = lgm(head(embedding, means), embedding, means, TARGETS, margin=0.1, likelihood_weight=0.01)
    loss.backward()
    assert torch.isfinite(loss)
    for leaf in (embedding, means):
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()


def test_small_distances_of_large_values_are_kept() -> None:
    # Squares near 1e8, where float32 counts in steps of 8: from the logits the distance 0.02 would be lost.
    means = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    embedding = means[:1] + torch.tensor([[0.0, 0.2]])
    loss = lgm(head(embedding, means), embedding, means, torch.tensor([0]), margin=0.1, likelihood_weight=1.0)
    assert loss.item() == pytest.approx(0.02, rel=1e-3)


def test_bfloat16_agrees_with_float32() -> None:
    # Values that bfloat16 holds exactly: only the loss's own arithmetic can differ.
    embedding, means = (leaf.bfloat16() for leaf in example(torch.float32))
    logits = head(embedding, means)
    keys = {"margin": 0.3, "likelihood_weight": 0.1}
    rough = lgm(logits, embedding, means, TARGETS, **keys)
    assert rough.dtype == torch.float32
    exact = lgm(logits.double(), embedding.double(), means.double(), TARGETS, **keys)
    torch.testing.assert_close(rough.double(), exact, rtol=1e-5, atol=1e-5)


def test_the_loss_reads_the_head_of_the_student() -> None:
    embedding, means = (leaf.requires_grad_() for leaf in example())
    student = Outputs(head(embedding, means), embedding, None, means, -means.square().sum(1) / 2)
    shapes = Shapes("single-label", 3, TARGETS, Widths(4, None, None, None), None)
    config = LgmConfig()
    step = Step(student, None, TARGETS, torch.arange(5), 0.5)
    expected = lgm(student.logits, embedding, means, TARGETS, margin=0.1, likelihood_weight=0.01)
    assert torch.equal(config.build(shapes)(step), expected)
    assert config.needs == {"gaussian_head"}
    with pytest.raises(ValueError, match="the classifier's weight"):
        config.build(shapes)(step._replace(student=student._replace(weight=None)))


@pytest.mark.parametrize("key", ["margin", "likelihood_weight"])
@pytest.mark.parametrize("value", [-0.1, math.inf])
def test_settings_below_0_and_infinite_ones_are_refused(key: str, value: float) -> None:
    with pytest.raises(ValidationError, match=key):
        LgmConfig.model_validate({key: value})
