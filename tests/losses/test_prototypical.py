import math

import pytest
import torch
from pydantic import ValidationError
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from kdcam.losses.loss import Shapes, Step
from kdcam.losses.prototypical import (
    PrototypicalConfig,
    class_means,
    closeness,
    prototypical,
    scaled_cosines,
    support_mask,
)
from kdcam.models.classifier import Outputs, Widths

# Class 2 comes twice as support of 2 shots and has no query; class 3 is not in the batch.
TARGETS = torch.tensor([0, 2, 1, 1, 0, 2, 1, 0, 0])
SUPPORT = [0, 1, 2, 3, 4, 5]


def random_embedding(count: int = 9, width: int = 4) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0)).double()


def step_of(embedding: Tensor, targets: Tensor = TARGETS, classes: int = 4) -> Step:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(classes, embedding.shape[1], generator=generator).to(embedding).requires_grad_()
    bias = torch.randn(classes, generator=generator).to(embedding).requires_grad_()
    student = Outputs(embedding @ weight.T + bias, embedding, None, weight, bias)
    return Step(student, None, targets, torch.arange(len(targets)), 0.5)


def module(**settings: object) -> torch.nn.Module:
    shapes = Shapes("single-label", 4, TARGETS, Widths(4, 4, 1, 1), None)
    return PrototypicalConfig.model_validate(settings).build(shapes)


def one_by_one(embedding: Tensor, *, cosine: bool) -> Tensor:
    """Return the loss by the paper's equations, a query and a class at a time."""
    means = {}
    for label in (0, 1, 2):
        rows = [embedding[i] for i in SUPPORT if TARGETS[i] == label]
        means[label] = sum(rows) / len(rows)
    terms = []
    for i in set(range(9)) - set(SUPPORT):
        scores = {
            label: 10 * torch.nn.functional.cosine_similarity(embedding[i], mean, dim=0)
            if cosine
            else -(torch.dist(embedding[i], mean) ** 2)
            for label, mean in means.items()
        }
        total = torch.stack(list(scores.values())).logsumexp(0)
        terms.append(total - scores[int(TARGETS[i])])
    return torch.stack(terms).mean()


def test_the_first_images_of_each_class_are_support() -> None:
    assert support_mask(TARGETS, shots=2).nonzero().flatten().tolist() == SUPPORT
    assert support_mask(TARGETS, shots=1).nonzero().flatten().tolist() == [0, 1, 2]
    assert support_mask(TARGETS, shots=4).all()


def test_hand_worked_value() -> None:
    # Prototypes 0 and 4 on a line; a query of class 0 at 1: distances 1 and 9.
    embedding = torch.tensor([[0.0], [4.0], [1.0]], dtype=torch.float64)
    targets = torch.tensor([0, 1, 0])
    support = support_mask(targets, shots=1)
    means, seen = class_means(embedding, targets, support, num_classes=3)
    assert means.flatten().tolist() == [0, 4, 0]
    assert seen.tolist() == [True, True, False]
    similarity = closeness(embedding, means)
    torch.testing.assert_close(similarity[2, :2], torch.tensor([-1, -9], dtype=torch.float64))
    loss = prototypical(similarity, seen, targets, ~support)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-8)))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_equals_the_equations_one_by_one(distance: str) -> None:
    embedding = random_embedding()
    loss = module(shots=2, distance=distance)(step_of(embedding))
    torch.testing.assert_close(loss, one_by_one(embedding, cosine=distance == "cosine"))


def test_the_nearest_prototype_is_scikit_learns_nearest_centroid() -> None:
    embedding, targets = random_embedding(200, 6), torch.arange(200) % 5
    support = support_mask(targets, shots=10)
    means, _ = class_means(embedding, targets, support, num_classes=5)
    found = closeness(embedding, means).argmax(1)[~support]
    reference = NearestCentroid().fit(embedding[support].numpy(), targets[support].numpy())
    assert found.tolist() == reference.predict(embedding[~support].numpy()).tolist()


def test_cosines_do_not_change_with_lengths_and_distances_do() -> None:
    embedding, means = random_embedding(), random_embedding(3)
    torch.testing.assert_close(
        scaled_cosines(3 * embedding, means, scale=10), scaled_cosines(embedding, means / 2, scale=10)
    )
    torch.testing.assert_close(closeness(3 * embedding, 3 * means), 9 * closeness(embedding, means))


def test_moving_all_embeddings_changes_nothing() -> None:
    embedding = random_embedding()
    loss = module(shots=2)
    torch.testing.assert_close(loss(step_of(embedding + 5)), loss(step_of(embedding)))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_gradient_agrees_with_finite_differences(distance: str) -> None:
    support = support_mask(TARGETS, shots=2)

    def loss(embedding: Tensor) -> Tensor:
        means, seen = class_means(embedding, TARGETS, support, num_classes=4)
        similarity = (
            closeness(embedding, means)
            if distance == "euclidean"
            else scaled_cosines(embedding, means, scale=10.0)
        )
        return prototypical(similarity, seen, TARGETS, ~support)

    assert torch.autograd.gradcheck(loss, random_embedding().requires_grad_())


def test_the_classifier_learns_by_cross_entropy_and_moves_nothing_else() -> None:
    embedding = random_embedding().requires_grad_()
    step = step_of(embedding)
    module(shots=2)(step).backward()
    moved = embedding.grad
    plain = step_of(random_embedding())
    torch.nn.functional.cross_entropy(plain.student.logits, TARGETS).backward()
    assert step.student.weight is not None
    assert plain.student.weight is not None
    torch.testing.assert_close(step.student.weight.grad, plain.student.weight.grad)
    alone = random_embedding().requires_grad_()
    one_by_one(alone, cosine=False).backward()
    torch.testing.assert_close(moved, alone.grad)


def test_without_a_query_it_is_zero_and_says_so() -> None:
    embedding = random_embedding().requires_grad_()
    loss = module(shots=4)(step_of(embedding))
    loss.backward()
    assert loss.item() == 0
    assert embedding.grad is not None
    assert embedding.grad.abs().sum() == 0
    config, shapes = PrototypicalConfig(shots=4), Shapes("single-label", 4, TARGETS, Widths(4, 4, 1, 1), None)
    warning = config.diagnose({"prototypical": 0.0}, shapes)
    assert warning is not None
    assert "no class had more than shots = 4 images in a batch" in warning
    assert config.diagnose({"prototypical": 0.1}, shapes) is None


def test_sums_of_half_precision_are_wide() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = module(shots=2)(step_of(random_embedding().float()))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss.double(), one_by_one(random_embedding(), cosine=False), rtol=1e-5, atol=1e-5
    )


def test_a_scale_without_effect_is_refused() -> None:
    assert PrototypicalConfig(distance="cosine", scale=5.0).scale == 5
    with pytest.raises(ValidationError, match=r"found scale = 5 with distance = \"euclidean\""):
        PrototypicalConfig(scale=5.0)
    with pytest.raises(ValidationError, match=r"greater than or equal to 1"):
        PrototypicalConfig(shots=0)
