import numpy
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from kdcam.data.batches.episodes import draw_episodes
from kdcam.evaluation.few_shot.episode_heads import (
    correct_queries,
    cosine_scores,
    euclidean_scores,
    query_labels,
)


@pytest.fixture
def table() -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping classes, far from the origin."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(12).repeat_interleave(30)
    middles = torch.randn(12, 24, generator=generator)
    return 50 + middles[targets] + 2 * torch.randn(360, 24, generator=generator), targets


# It divides by images less classes, 0 of one shot, for a number that it needs only to shrink centroids.
@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
@pytest.mark.parametrize("shots", [1, 5])
def test_equals_nearest_centroid_of_scikit_learn(
    table: tuple[torch.Tensor, torch.Tensor], shots: int
) -> None:
    embeddings, targets = table
    episodes = draw_episodes(targets, ways=5, shots=shots, queries=15, episodes=60, seed=1)
    right = correct_queries(embeddings, episodes, "prototype")
    labels = numpy.arange(5).repeat(shots)
    for number in range(60):
        support = embeddings[episodes.support[number]].double().numpy()
        query = embeddings[episodes.query[number]].double().numpy()
        predicted = NearestCentroid().fit(support, labels).predict(query)
        ours = euclidean_scores(
            embeddings[episodes.support[number]].view(1, 5, shots, -1),
            embeddings[episodes.query[number]][None],
        )
        assert ours[0].argmax(1).tolist() == predicted.tolist()
        assert int(right[number]) == int((predicted == query_labels(episodes).numpy()).sum())
    assert 0.3 < float(right.double().mean()) / 75 < 0.99


def test_euclidean_scores_are_distances_up_to_what_classes_share() -> None:
    torch.manual_seed(0)
    support, query = torch.randn(3, 4, 2, 6).double(), torch.randn(3, 7, 6).double()
    distances = torch.cdist(query, support.mean(2)).square()
    shared = euclidean_scores(support, query) + distances
    torch.testing.assert_close(shared, shared[..., :1].expand_as(shared))


def test_cosine_scores_by_brute_force() -> None:
    torch.manual_seed(0)
    support, query = torch.randn(3, 4, 5, 6).double(), torch.randn(3, 7, 6).double()
    found = cosine_scores(support, query)
    for t in range(3):
        for w in range(4):
            mean = sum(one / one.norm() for one in support[t, w]) / 5
            for q in range(7):
                expected = float(mean @ query[t, q] / (mean.norm() * query[t, q].norm()))
                assert float(found[t, q, w]) == pytest.approx(expected, abs=1e-12)


def test_cosine_knows_no_length() -> None:
    torch.manual_seed(0)
    support, query = torch.randn(2, 3, 5, 6), torch.randn(2, 4, 6)
    lengths = torch.rand(2, 3, 5, 1) + 0.1
    torch.testing.assert_close(cosine_scores(support * lengths, query * 9), cosine_scores(support, query))


def test_an_embedding_of_zeros_gives_no_nan() -> None:
    found = cosine_scores(torch.zeros(1, 2, 1, 3), torch.zeros(1, 2, 3))
    assert torch.equal(found, torch.zeros(1, 2, 2))
