"""Tests of kdcam.evaluation.robustness.evaluated_images."""

import pytest
import torch
from small_runs import Watcher
from tensor_batches import TensorBatches
from torch import nn

from kdcam.errors import DataError, ModelError
from kdcam.evaluation.robustness.evaluated_images import collect_logits


@pytest.fixture
def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(16, 3))


@pytest.fixture
def batches() -> TensorBatches:
    return TensorBatches(torch.rand(10, 1, 4, 4), torch.arange(10) % 3)


def test_all_or_the_first_images(classifier: nn.Module, batches: TensorBatches) -> None:
    statistics = classifier[0].running_mean.clone()
    watcher = Watcher()
    logits, targets = collect_logits(classifier, batches, task="calibration", progress=watcher)
    assert classifier.training
    assert torch.equal(classifier[0].running_mean, statistics)
    assert torch.equal(targets, batches.targets)
    assert not logits.requires_grad
    assert torch.allclose(logits, classifier.eval()(batches.images), atol=1e-6)
    assert watcher.done == [("calibration", 4, 10), ("calibration", 8, 10), ("calibration", 10, 10)]
    first = collect_logits(classifier, batches, task="calibration", n_examples=6)
    assert torch.allclose(first.logits, logits[:6], atol=1e-6)
    assert torch.equal(first.targets, targets[:6])
    assert len(collect_logits(classifier, batches, task="calibration", n_examples=99).logits) == 10


def test_no_image_and_broken_weights(classifier: nn.Module, batches: TensorBatches) -> None:
    with pytest.raises(DataError, match=r"calibration: the part has no image"):
        collect_logits(classifier, TensorBatches(torch.zeros(0, 1, 4, 4), torch.zeros(0)), task="calibration")
    with torch.no_grad():
        classifier[3].weight.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"calibration: the logits of 10 of 10 images are not finite"):
        collect_logits(classifier, batches, task="calibration")
