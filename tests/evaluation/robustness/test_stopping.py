"""Every long loop of an evaluation ends where the user asks for it."""

import pytest
import torch
from tensor_batches import TensorBatches

from kdcam.errors import Interrupted
from kdcam.evaluation.robustness.corruption_report import corruption_report
from kdcam.evaluation.robustness.evaluated_images import collect_logits
from kdcam.evaluation.robustness.partial_results import stop_with_results_kept
from kdcam.runtime.progress import Silent


class Stopping(Silent):
    """Somebody who wants to stop at once."""

    def should_stop(self) -> bool:
        """Return True."""
        return True


def test_nothing_happens_where_nobody_asks() -> None:
    stop_with_results_kept(Silent())


def test_loops_over_images_stop() -> None:
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    batches = TensorBatches(torch.rand(6, 1, 8, 8), torch.arange(6) % 3)
    with pytest.raises(Interrupted, match=r"what is done is kept"):
        collect_logits(classifier, batches, task="calibration", progress=Stopping())
    with pytest.raises(Interrupted, match=r"what is done is kept"):
        corruption_report(classifier, batches, n_examples=6, progress=Stopping())
