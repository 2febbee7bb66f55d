import pytest
import torch
from small_runs import Watcher

from kdcam.data.batches.batch import Batch
from kdcam.errors import TrainingError
from kdcam.losses.loss import LossTerms
from kdcam.training.loss_terms import (
    SHARE_STEPS,
    ShareWatch,
    TermMeans,
    require_finite,
    require_finite_weights,
    trace,
)


def terms(**values: float) -> LossTerms:
    tensors = {name: torch.tensor(value) for name, value in values.items()}
    return LossTerms(torch.stack(list(tensors.values())).sum(), tensors, dict.fromkeys(values, 1.0))


def test_means_weigh_each_image_alike_also_for_a_term_that_starts_late() -> None:
    means = TermMeans()
    means.add(terms(ce=1.0), images=10)
    means.add(terms(ce=4.0, cam=2.0), images=5)
    assert means.means() == pytest.approx({"ce": 2.0, "cam": 2.0})
    again = TermMeans()
    again.load_state_dict(means.state_dict())  # type: ignore[arg-type]
    assert again.means() == means.means()


def test_shares_are_told_once_after_each_start() -> None:
    watcher = Watcher()
    watch = ShareWatch(watcher)
    for _ in range(100):
        watch.take(terms(ce=1.0))
    assert watcher.messages == []  # a single term has no share
    for _ in range(SHARE_STEPS - 1):
        watch.take(terms(ce=3.0, cam=-1.0))
    assert watcher.messages == []
    for _ in range(100):
        watch.take(terms(ce=3.0, cam=-1.0))
    assert watcher.messages == ["share of each term in the loss over 50 steps: cam 25.0%, ce 75.0%"]
    assert watcher.warnings == []


def test_tiny_and_huge_shares_are_warned_of() -> None:
    watcher = Watcher()
    watch = ShareWatch(watcher)
    for _ in range(SHARE_STEPS):
        watch.take(terms(ce=1.0, kd=1000.0))
    assert [text.split(":")[0] for text in watcher.warnings] == ["loss ce", "loss kd"]
    assert "change its weight (now 1)" in watcher.warnings[0]


def test_first_step_that_is_not_finite_is_named() -> None:
    batch = Batch(torch.zeros(20, 1, 2, 2), torch.zeros(20), torch.arange(100, 120))
    steps = [
        trace(terms(ce=value, cam=1.0), batch, epoch=3, step=step)
        for step, value in enumerate((1.0, float("inf"), float("nan")), start=1)
    ]
    require_finite(steps[:1])
    require_finite([])
    with pytest.raises(
        TrainingError, match=r"epoch 3, step 2: .*\(ce = inf\); .*100, 101, .*\(20 in all\).*clip_norm"
    ):
        require_finite(steps)


def test_weights_broken_by_an_update_are_named() -> None:
    network = torch.nn.Linear(2, 1)
    require_finite_weights(network, epoch=1, step=1)
    with torch.no_grad():
        network.bias[0] = torch.nan
    with pytest.raises(
        TrainingError, match=r"epoch 2, step 7: bias is not finite after the update.*clip_norm"
    ):
        require_finite_weights(network, epoch=2, step=7)


def test_outputs_that_are_not_finite_are_told_where_the_loss_is_finite() -> None:
    batch = Batch(torch.zeros(20, 1, 2, 2), torch.zeros(20), torch.arange(100, 120))
    for broken, words in (
        (
            [3, 0],
            r"step 1: the outputs of the student are not finite for 3 of 20 images; .*lower the learning rate",
        ),
        (
            [0, 5],
            r"the outputs of a teacher are not finite for 5 of 20 images; .*check the teacher's weights",
        ),
    ):
        step = trace(terms(ce=1.0)._replace(broken=torch.tensor(broken)), batch, epoch=1, step=1)
        with pytest.raises(TrainingError, match=words):
            require_finite([trace(terms(ce=1.0), batch, epoch=1, step=0), step])
