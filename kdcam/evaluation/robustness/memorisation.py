"""What wrong labels in the training part did to a run: how much of them it memorised, and what it scores."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdcam.data.batches.batch import Batches
from kdcam.errors import CheckpointError, DataError
from kdcam.evaluation.robustness.evaluated_images import collect_logits
from kdcam.files.json_files import read_json
from kdcam.runs.run_files import METRICS_FILE, RESULT_FILE, read_metrics
from kdcam.runtime.numerics import share_of
from kdcam.runtime.progress import Progress
from kdcam.scores.ranking import auroc


class Memorisation(BaseModel, frozen=True):
    """What a classifier predicts for training images, apart for those that were given a wrong label."""

    images: int
    wrong_labels: int
    # share of the wrongly labelled predicted as their wrong label; None: there are none
    memorised: float | None
    recovered: float | None  # share of the wrongly labelled predicted as their true label
    clean_label_acc: float | None  # accuracy on the rightly labelled; None: there are none
    overall_noisy_acc: float  # share of all images predicted as the label that was trained on
    # how well the cross-entropy to the label trained on finds the wrong labels: share of pairs of a wrong and a right
    # label with the greater loss at the wrong one; 1: all found, 0.5: by chance; None: only wrong or only right ones
    wrong_label_auroc: float | None


class EpochAccuracy(BaseModel, frozen=True):
    """A run's accuracy on its validation part, whose labels are clean, after an epoch."""

    epoch: int
    acc1: float


class LabelNoiseReport(BaseModel, frozen=True):
    """What a finished run was trained on and what it scores."""

    kind: str | None  # of `NoiseConfig`; None: trained without label noise
    nominal_rate: float | None  # share of wrong labels to expect; None: read from a file, not drawn
    realised_rate: float  # share of wrong labels trained on
    selection: str  # the rule that chose the selected epoch, in words
    selected_epoch: int
    last_epoch: int
    selected_test_acc: float | None  # on clean labels; None: there is no test part
    last_test_acc: float | None
    validation: tuple[EpochAccuracy, ...]  # by epoch; none where there is no validation part
    memorisation: Memorisation | None  # None: not asked for, or trained without label noise


def memorisation(
    classifier: nn.Module,
    batches: Batches,
    clean_targets: Tensor,
    noisy_targets: Tensor,
    *,
    progress: Progress | None = None,
) -> Memorisation:
    """Return how much of the wrong labels a classifier predicts, and how well its loss finds them.

    Args:
        classifier: gives logits (N, K) for images in [0, 1].
        batches: the training part in order, not augmented.
        clean_targets: (N,) int64, the true labels by position in the training part.
        noisy_targets: (N,) int64, the labels that it was trained on.
        progress: who watches.

    Raises ``DataError`` when the labels do not belong to these images, ``ModelError`` when logits are not finite.
    """
    clean, noisy = clean_targets.cpu(), noisy_targets.cpu()
    if not clean.shape == noisy.shape == (batches.num_images,):
        raise DataError(
            f"found {batches.num_images} training images, {tuple(clean.shape)} true and {tuple(noisy.shape)} "
            "noisy labels; the labels stored with a run belong to its own data and split"
        )
    logits, _ = collect_logits(classifier, batches, task="memorisation", progress=progress)
    predicted, losses = logits.argmax(1), cross_entropy(logits, noisy, reduction="none")
    wrong = clean != noisy
    return Memorisation(
        images=len(clean),
        wrong_labels=int(wrong.sum()),
        memorised=_share((predicted == noisy)[wrong]),
        recovered=_share((predicted == clean)[wrong]),
        clean_label_acc=_share((predicted == clean)[~wrong]),
        overall_noisy_acc=share_of(predicted == noisy),
        wrong_label_auroc=auroc(losses[wrong], losses[~wrong]),
    )


def _share(hits: Tensor) -> float | None:
    return share_of(hits) if len(hits) else None


def label_noise_report(folder: Path, memorised: Memorisation | None = None) -> LabelNoiseReport:
    """Return the noise, the scores and the validation curve of a finished run; ``memorised`` is carried along.

    Raises ``CheckpointError`` when result.json or metrics.jsonl in ``folder`` is missing or is of another form.
    """
    result = read_json(folder / RESULT_FILE)
    noise = result.get("label_noise")
    if noise is None:
        noise = {"kind": None, "nominal_rate": 0.0, "realised_rate": 0.0}
    try:
        return LabelNoiseReport(
            kind=noise["kind"],
            nominal_rate=noise["nominal_rate"],
            realised_rate=noise["realised_rate"],
            selection=result["selection"],
            selected_epoch=result["selected"]["epoch"],
            last_epoch=result["last"]["epoch"],
            selected_test_acc=_test_accuracy(result["selected"]),
            last_test_acc=_test_accuracy(result["last"]),
            validation=_validation_curve(folder),
            memorisation=memorised,
        )
    except (AttributeError, KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(
            f"{folder / RESULT_FILE}: is not of the form that a run of single labels writes now (its label_noise is "
            f"{noise}); train the run again in another folder"
        ) from error


def _test_accuracy(scores: dict[str, Any]) -> float | None:
    test = scores["test"]
    return None if test is None else test["acc1"]


def _validation_curve(folder: Path) -> tuple[EpochAccuracy, ...]:
    lines = read_metrics(folder)
    try:
        return tuple(
            EpochAccuracy(epoch=line["epoch"], acc1=line["val"]["acc1"]) for line in lines if line["val"]
        )
    except (KeyError, TypeError, ValidationError) as error:
        raise CheckpointError(
            f"{folder / METRICS_FILE}: a line lacks the accuracy val.acc1 of the validation part; restore the file"
        ) from error


__all__ = ["EpochAccuracy", "LabelNoiseReport", "Memorisation", "label_noise_report", "memorisation"]
