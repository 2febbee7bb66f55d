"""The area under the ROC curve against hand-worked numbers and scikit-learn."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from kdcam.scores.ranking import auroc


def test_by_hand_with_a_tie():
    # Pairs: 2 > 1, 2 = 2 (half), 0 < 1, 0 < 2.
    assert auroc(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 2.0])) == 1.5 / 4


@pytest.mark.parametrize(("low", "high", "expected"), [(0.0, 1.0, 1.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.5)])
def test_the_ends_and_the_middle(low: float, high: float, expected: float):
    assert auroc(torch.full((3,), high), torch.full((5,), low)) == expected


@pytest.mark.parametrize("levels", [4, 10_000])  # many ties, few ties
def test_equals_scikit_learn(levels: int):
    generator = torch.Generator().manual_seed(levels)
    positives = torch.randint(levels, (301,), generator=generator) + levels // 4
    negatives = torch.randint(levels, (777,), generator=generator)
    labels = torch.cat((torch.ones(301), torch.zeros(777)))
    expected = roc_auc_score(labels.numpy(), torch.cat((positives, negatives)).numpy())
    assert auroc(positives, negatives) == pytest.approx(expected, abs=1e-12)


def test_ranks_alone_matter():
    positives, negatives = torch.tensor([0.1, float("inf")]), torch.tensor([-float("inf"), 0.2])
    assert auroc(positives, negatives) == 0.75
    assert auroc(positives.exp(), negatives.exp()) == 0.75


def test_an_empty_group_has_no_pairs():
    assert auroc(torch.zeros(0), torch.ones(3)) is None
    assert auroc(torch.ones(3), torch.zeros(0)) is None


def test_scores_without_a_rank_are_refused():
    with pytest.raises(ValueError, match=r"contain NaN, which has no rank"):
        auroc(torch.tensor([0.0, float("nan")]), torch.ones(1))
    with pytest.raises(ValueError, match=r"shape \(2, 1\); expected one score an image"):
        auroc(torch.ones(2, 1), torch.ones(1))
