"""How good a classifier is on a part of the data: accuracies, likelihood, calibration, confusion."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from kdcam.data.batches.batch import Batches
from kdcam.errors import DataError
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.numerics import FiniteCheck, require_finite_outputs
from kdcam.runtime.progress import Progress, Silent

ECE_BINS = 15
THRESHOLD = 0.5  # of several labels: those whose probability is above it are said to be there
_GRAIN = 2.0**24  # float64 adds multiples of 1 / _GRAIN exactly, so the order of additions does not matter


@dataclass(frozen=True)
class ClassificationReport:
    """The scores of a classifier on one part; accuracies and ece in [0, 1]."""

    images: int
    acc1: float  # share of images whose label is the top class
    acc5: float | None  # among the top five; None with fewer than six classes
    mean_class_acc: float  # mean over the classes that have images
    nll: float  # mean negative log-likelihood, in nats
    ece: float  # expected calibration error, 15 equal bins (lo, hi] of the top probability
    per_class_acc: tuple[float | None, ...]  # None for a class without images
    confusion: tuple[tuple[int, ...], ...]  # rows: true class; columns: predicted class

    def headline(self) -> dict[str, float]:
        """Return the single numbers, for logs and tables."""
        numbers = {field.name: getattr(self, field.name) for field in fields(self)[1:6]}
        return {name: value for name, value in numbers.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Return everything in a form that JSON takes."""
        return asdict(self)


@dataclass(frozen=True)
class MultiLabelReport:
    """The scores of a classifier on one part where each class is there or not.

    Decisions are made at ``threshold``: a class is said to be there when its probability is above it. F1 is
    2 TP / (2 TP + FP + FN). Classes without positives count in ``micro_f1`` and ``label_acc`` alone.
    """

    images: int
    mean_ap: float | None  # mean average precision of the classes that have positives; None: none has
    micro_f1: float | None  # of all (image, class) decisions together; None: nothing is there nor said to be
    macro_f1: float | None  # mean over the classes that have positives; None: none has
    label_acc: float  # share of (image, class) decisions that are right
    nll: float  # mean over images and classes of the binary negative log-likelihood, in nats
    threshold: float  # a probability
    classes_without_positives: int  # left out of mean_ap and macro_f1
    per_class_ap: tuple[float | None, ...]  # None for a class without positives
    per_class_f1: tuple[float | None, ...]  # None for a class without positives

    def headline(self) -> dict[str, float]:
        """Return the single numbers, for logs and tables."""
        numbers = {field.name: getattr(self, field.name) for field in fields(self)[1:6]}
        return {name: value for name, value in numbers.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Return everything in a form that JSON takes."""
        return asdict(self)


class ScoreSums:
    """Exact sums over samples, from which a report follows; sums of several processes may be added up."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.top5 = 0
        self.nll = torch.zeros((), dtype=torch.float64)
        self.bins = torch.zeros(3, ECE_BINS, dtype=torch.float64)  # images, right ones, sum of confidence

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: logits (N, K) and labels (N,).

        Raises ``DataError`` for a label of no class, ``ModelError`` for logits that are not finite.
        """
        logits, targets = _on_cpu(logits), targets.cpu()
        require_finite_outputs(logits, "scoring")
        _check_labels(targets, self.num_classes)
        confidence, predicted = logits.softmax(1).max(1)
        right = predicted == targets
        pairs = targets * self.num_classes + predicted
        self.confusion += torch.bincount(pairs, minlength=self.num_classes**2).view_as(self.confusion)
        self.top5 += int((logits.topk(min(5, self.num_classes), 1).indices == targets[:, None]).sum())
        self.nll += _grained(cross_entropy(logits, targets, reduction="none")).sum()
        bins = (confidence * ECE_BINS).ceil().long().sub(1).clamp(0, ECE_BINS - 1)
        for row, values in enumerate((torch.ones_like(confidence), right.double(), _grained(confidence))):
            self.bins[row] += torch.bincount(bins, weights=values, minlength=ECE_BINS)

    def merge(self, other: Self) -> None:
        """Add the sums of other samples of the same classes."""
        self.confusion += other.confusion
        self.top5 += other.top5
        self.nll += other.nll
        self.bins += other.bins

    def report(self) -> ClassificationReport:
        """Return the scores; ``ValueError`` when nothing was added."""
        images = int(self.confusion.sum())
        if images == 0:
            raise ValueError("no image was scored")
        right, of_class = self.confusion.diagonal(), self.confusion.sum(1)
        per_class = [float(r / n) if n else None for r, n in zip(right.double(), of_class, strict=True)]
        known = [accuracy for accuracy in per_class if accuracy is not None]
        return ClassificationReport(
            images=images,
            acc1=int(right.sum()) / images,
            acc5=self.top5 / images if self.num_classes > 5 else None,
            mean_class_acc=sum(known) / len(known),
            nll=float(self.nll) / images,
            ece=float((self.bins[1] - self.bins[2]).abs().sum()) / images,
            per_class_acc=tuple(per_class),
            confusion=tuple(tuple(row) for row in self.confusion.tolist()),
        )


def score(
    classifier: nn.Module,
    batches: Batches,
    *,
    threshold: float = THRESHOLD,
    place: str = "scoring",
    progress: Progress | None = None,
) -> ClassificationReport | MultiLabelReport:
    """Return the scores of a classifier, in eval mode, on all batches; its modes are put back afterwards.

    Args:
        classifier: gives logits (N, K) for images in [0, 1].
        batches: evaluation batches on its device; targets (N,) give a `ClassificationReport`, (N, K) a
            `MultiLabelReport`.
        threshold: the probability above which one of several labels is said to be there; single labels need none.
        place: what an error about outputs begins with.
        progress: who watches.

    Raises ``DataError`` when there is no image, or when the labels do not fit the classifier's classes; ``ModelError``
    when logits are not finite, naming of how many images.
    """
    sums: ScoreSums | None = None
    finite = FiniteCheck()
    rows: list[tuple[Tensor, Tensor]] = []  # average precision needs the order of all images
    watcher = progress or Silent()
    with eval_mode(classifier), torch.no_grad():
        for done, batch in enumerate(batches.epoch(0), start=1):
            logits = classifier(batch.images)
            if not finite.take(logits):
                continue  # so that all are counted
            if batch.targets.ndim == 2:
                rows.append((_on_cpu(logits), batch.targets.cpu()))
            else:
                sums = sums or ScoreSums(logits.shape[1])
                sums.add(logits, batch.targets)
            watcher.advance("scoring", done, len(batches))
    finite.require(place)
    if sums is not None:
        return sums.report()
    if not rows:
        raise DataError("the part to score has no image; choose another part, or give it a larger share")
    logits, targets = (torch.cat(tensors) for tensors in zip(*rows, strict=True))
    return multi_label_report(logits, targets, threshold=threshold)


def multi_label_report(logits: Tensor, targets: Tensor, *, threshold: float = THRESHOLD) -> MultiLabelReport:
    """Return the scores of logits (N, K) against targets (N, K) of 0 and 1; see `MultiLabelReport`.

    Raises ``DataError`` where the shapes differ, ``ModelError`` for logits that are not finite.
    """
    if logits.shape != targets.shape:
        raise DataError(
            f"targets have shape {tuple(targets.shape)} where the classifier gives {tuple(logits.shape)}; "
            "score it on data with the classes that it was trained for"
        )
    require_finite_outputs(logits, "scoring")
    logits, present = logits.double(), targets > 0.5
    said = logits > torch.logit(torch.tensor(threshold, dtype=torch.float64))
    per_class_ap = tuple(map(average_precision, logits.unbind(1), present.unbind(1)))
    per_class_f1 = tuple(
        f1(*column) if column[1].any() else None
        for column in zip(said.unbind(1), present.unbind(1), strict=True)
    )
    return MultiLabelReport(
        images=len(logits),
        mean_ap=mean_of_known(per_class_ap),
        micro_f1=f1(said, present),
        macro_f1=mean_of_known(per_class_f1),
        label_acc=float((said == present).double().mean()),
        nll=float(binary_cross_entropy_with_logits(logits, present.double())),
        threshold=threshold,
        classes_without_positives=per_class_ap.count(None),
        per_class_ap=per_class_ap,
        per_class_f1=per_class_f1,
    )


def mean_of_known(scores: Sequence[float | None]) -> float | None:
    """Return the mean of the numbers that are known; None where none is."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None


def f1(said: Tensor, present: Tensor) -> float | None:
    """Return 2 TP / (2 TP + FP + FN) of boolean decisions against the truth, of any one shape; None when all
    of both are false."""
    total = int(said.sum()) + int(present.sum())
    return 2 * int((said & present).sum()) / total if total else None


def average_precision(scores: Tensor, present: Tensor) -> float | None:
    """Return the non-interpolated average precision of scores (N,) for images where ``present`` (N,) is true.

    The sum over thresholds of recall gained times precision; equal scores share a threshold. None without
    positives.
    """
    if not present.any():
        return None
    ordered, order = scores.sort(descending=True)
    last_of_ties = torch.ones_like(present)
    last_of_ties[:-1] = ordered[1:] != ordered[:-1]
    hits = present[order].double().cumsum(0)[last_of_ties]
    shown = (last_of_ties.nonzero()[:, 0] + 1).double()
    gained = hits.diff(prepend=hits.new_zeros(1))
    return float((gained * hits / shown).sum() / hits[-1])


def _check_labels(targets: Tensor, classes: int) -> None:
    unknown = targets[(targets < 0) | (targets >= classes)]
    if len(unknown) > 0:
        raise DataError(
            f"found label {unknown[0]} where the classifier has {classes} classes (labels 0 to {classes - 1}); score "
            "it on data with the classes that it was trained for"
        )


def _on_cpu(logits: Tensor) -> Tensor:
    return logits.detach().cpu().double()  # in this order: Apple's GPUs have no float64


def _grained(values: Tensor) -> Tensor:
    return (values * _GRAIN).round() / _GRAIN


__all__ = [
    "ECE_BINS",
    "THRESHOLD",
    "ClassificationReport",
    "MultiLabelReport",
    "ScoreSums",
    "average_precision",
    "f1",
    "mean_of_known",
    "multi_label_report",
    "score",
]
