import numpy
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from kdcam.errors import ModelError
from kdcam.evaluation.few_shot import episode_heads
from kdcam.evaluation.few_shot.episode_heads import (
    cosine_head_scores,
    linear_head_scores,
    logistic_heads,
    logistic_scores,
)


@pytest.fixture(params=[(1, 40), (5, 40), (5, 6)], ids=["1-shot", "5-shot", "few-features"])
def episodes(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    """Support (4, 3, S, E) and query (4, 12, E) of positive embeddings, as behind a ReLU."""
    shots, size = request.param
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(4, 3, 1, size, generator=generator)
    support = (middles + torch.randn(4, 3, shots, size, generator=generator)).relu()
    query = (middles + torch.randn(4, 3, 4, size, generator=generator)).relu().flatten(1, 2)
    return support, query


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_minimum_is_found_whatever_the_size_of_embeddings(
    episodes: tuple[Tensor, Tensor], scale: float
) -> None:
    heads = logistic_heads(scale * episodes[0])
    assert bool(heads.weight.isfinite().all())


def test_a_minimum_that_is_not_found_is_an_error(
    episodes: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdcam.evaluation.few_shot.episode_heads._NEWTON_STEPS", 1)
    with pytest.raises(
        ModelError,
        match=r"few-shot\.heads \(--head\): the logistic regression of 4 of 4 episodes \(logistic\)",
    ):
        logistic_heads(episodes[0])


def test_logistic_equals_scikit_learn_on_each_episode(episodes: tuple[Tensor, Tensor]) -> None:
    support, query = episodes
    shots = support.shape[2]
    found = logistic_scores(support, query).softmax(2)
    for one, images, ours in zip(support, query, found, strict=True):
        reference = LogisticRegression(C=1 / (3 * shots * 1e-3), tol=1e-9, max_iter=10000)
        reference.fit(one.flatten(0, 1).double().numpy(), numpy.arange(3).repeat(shots))
        numpy.testing.assert_allclose(
            ours.numpy(), reference.predict_proba(images.double().numpy()), atol=1e-4
        )


def test_logistic_on_equal_images_says_nothing() -> None:
    heads = logistic_heads(torch.ones(2, 3, 4, 5))
    torch.testing.assert_close(heads.weight, torch.zeros(2, 3, 5).double())
    torch.testing.assert_close(heads.bias.softmax(1), torch.full((2, 3), 1 / 3).double())


def trained_one_by_one(support: Tensor, query: Tensor, seed: tuple[int, ...]) -> Tensor:
    """The released procedure on one episode, with torch's own weight normalisation."""
    ways, shots, size = support.shape
    start, orders = episode_heads._baseline_draws([seed], ways, ways * shots, size, columns=size)
    layer = nn.Linear(size, ways, bias=False, dtype=support.dtype)
    with torch.no_grad():
        layer.weight.copy_(start[0])
    layer = nn.utils.parametrizations.weight_norm(layer, dim=0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9, dampening=0.9, weight_decay=0.001)
    images, targets = normalize(support.flatten(0, 1), dim=1), torch.arange(ways).repeat_interleave(shots)
    for order in orders[0]:
        for batch in order.split(4):
            optimizer.zero_grad()
            cross_entropy(2 * layer(images[batch]), targets[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return 2 * layer(normalize(query, dim=1))


def test_cosine_heads_equal_the_released_procedure(episodes: tuple[Tensor, Tensor]) -> None:
    support, query = (part.double() for part in episodes)
    seeds = [(7, number) for number in range(4)]
    found = cosine_head_scores(support, query, seeds=seeds)
    for number, seed in enumerate(seeds):
        expected = trained_one_by_one(support[number], query[number], seed)
        torch.testing.assert_close(found[number], expected, rtol=1e-6, atol=1e-8)


def test_an_episodes_cosine_head_depends_on_no_other(episodes: tuple[Tensor, Tensor]) -> None:
    support, query = episodes
    seeds = [(0, number) for number in range(4)]
    whole = cosine_head_scores(support, query, seeds=seeds)
    torch.testing.assert_close(cosine_head_scores(support[2:], query[2:], seeds=seeds[2:]), whole[2:])
    other = cosine_head_scores(support, query, seeds=[(1, number) for number in range(4)])
    assert not torch.allclose(other, whole)


def linear_trained_one_by_one(support: Tensor, query: Tensor, seed: tuple[int, ...]) -> Tensor:
    """The released procedure of the linear head on one episode, with torch's own layer."""
    ways, shots, size = support.shape
    start, orders = episode_heads._baseline_draws([seed], ways, ways * shots, size, columns=size + 1)
    layer = nn.Linear(size, ways, dtype=support.dtype)
    with torch.no_grad():
        layer.weight.copy_(start[0, :, :-1])
        layer.bias.copy_(start[0, :, -1])
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9, dampening=0.9, weight_decay=0.001)
    images, targets = support.flatten(0, 1), torch.arange(ways).repeat_interleave(shots)
    for order in orders[0]:
        for batch in order.split(4):
            optimizer.zero_grad()
            cross_entropy(layer(images[batch]), targets[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return layer(query)


def test_baseline_equals_the_released_procedure(episodes: tuple[Tensor, Tensor]) -> None:
    support, query = (part.double() for part in episodes)
    seeds = [(7, number) for number in range(4)]
    found = linear_head_scores(support, query, seeds=seeds)
    for number, seed in enumerate(seeds):
        expected = linear_trained_one_by_one(support[number], query[number], seed)
        torch.testing.assert_close(found[number], expected, rtol=1e-6, atol=1e-8)


def test_baseline_starts_as_torch_draws_a_layer_and_stops_before_the_minimum() -> None:
    weight, _ = episode_heads._baseline_draws([(0, number) for number in range(50)], 5, 5, 64, columns=65)
    assert float(weight.abs().max()) <= 1 / 8
    assert float(weight.std()) == pytest.approx(1 / 8 / 3**0.5, rel=0.02)  # uniform in [-1/8, 1/8]
    generator = torch.Generator().manual_seed(0)
    support, query = torch.rand(3, 5, 1, 64, generator=generator), torch.rand(3, 9, 64, generator=generator)
    trained = linear_head_scores(support, query, seeds=[(0, number) for number in range(3)])
    assert float((trained - logistic_scores(support, query)).abs().max()) > 0.1


def test_an_episodes_linear_head_depends_on_no_other(episodes: tuple[Tensor, Tensor]) -> None:
    support, query = episodes
    seeds = [(0, number) for number in range(4)]
    whole = linear_head_scores(support, query, seeds=seeds)
    torch.testing.assert_close(linear_head_scores(support[2:], query[2:], seeds=seeds[2:]), whole[2:])
    other = linear_head_scores(support, query, seeds=[(1, number) for number in range(4)])
    assert not torch.allclose(other, whole)
