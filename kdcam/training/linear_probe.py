"""The linear probe of a run: features of the images once, and the classifier on them solved."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from kdcam.data.dataset_parts import DataParts, Part
from kdcam.errors import Interrupted, TrainingError
from kdcam.models.classifier import Classifier
from kdcam.models.inspection import linear_classifier
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.progress import EpochRecord, Progress, Silent
from kdcam.scores.classification import ClassificationReport, ScoreSums
from kdcam.scores.embeddings import FeatureTable, feature_table
from kdcam.scores.main_scores import SCORE_WORDS
from kdcam.training.assembly import evaluation_batches
from kdcam.training.linear_probe_part import LogisticFit, fit_logistic_path
from kdcam.training.preflight import CheckedRun

INVERSE_PENALTIES: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
"""What is tried on the validation part (scikit-learn's C, for standardised features); kdcam's choice."""

USUAL_INVERSE_PENALTY = 1.0
"""Where nothing is selected: scikit-learn's default."""

_STOPPED = "the linear probe was stopped, and nothing of it is kept"

# Of the largest logit; rounding gives 1e-6, TF32 on a GPU 1e-3. kdcam's choice.
_TOLERANCE = 1e-2


class Candidate(NamedTuple):
    """A fit and what the validation part says of it."""

    fit: LogisticFit
    validation: ClassificationReport | None


class SolvedProbe(NamedTuple):
    """A classifier whose last layer was solved, and how it was chosen."""

    classifier: Classifier
    chosen: Candidate
    candidates: tuple[Candidate, ...]  # in rising order of the inverse penalty
    record: EpochRecord  # as of one epoch

    def selection(self) -> str:
        """Return how the inverse penalty was chosen, in words."""
        found = f"inverse penalty C = {self.chosen.fit.inverse_penalty:g}"
        solved = "the classifier was solved on features of the frozen network"
        if self.chosen.validation is None:
            return f"{solved}; {found}; nothing was selected on"
        tried = ", ".join(f"{one.fit.inverse_penalty:g}" for one in self.candidates)
        return (
            f"{solved}; {found} of {tried}: the highest {SCORE_WORDS['acc1']} on the validation part, ties by the "
            "smaller negative log-likelihood"
        )

    def to_json(self) -> dict[str, object]:
        """Return what was tried, in a form that JSON takes."""
        return {
            "inverse_penalty": self.chosen.fit.inverse_penalty,
            "candidates": [
                {
                    "inverse_penalty": one.fit.inverse_penalty,
                    "train_cross_entropy": one.fit.loss,
                    "steps": one.fit.steps,
                    "validation": None if one.validation is None else one.validation.headline(),
                }
                for one in self.candidates
            ],
        }


def solve_probe(checked: CheckedRun, parts: DataParts, *, progress: Progress) -> SolvedProbe:
    """Return the student of a recipe that `is_solved` with the classifier of least cross-entropy on the training part.

    The network sees each image once, as it is, in eval mode. With ``select = "best"`` and a validation part the
    inverse penalty is the one of `INVERSE_PENALTIES` that does best there; else `USUAL_INVERSE_PENALTY`. The
    classifier is fitted to the training part alone, so that its validation scores stay those of unseen images.

    Raises ``ModelError`` where the classifier is no linear layer with a bias, ``DataError`` where a picture can no
    longer be read, ``TrainingError`` where the features are not finite or the network does not give the logits that
    were fitted, and ``Interrupted`` when the watcher asks to stop.
    """
    start = time.perf_counter()
    recipe = checked.recipe
    student = checked.student.to(checked.precision.device)
    student.label_names = parts.label_names  # some sources tell their names only when they are read
    layer = linear_classifier(student)
    train = _features(checked, student, parts.train, "training", progress)
    watched = time.perf_counter() - start
    validation: FeatureTable | None = None
    tried: tuple[float, ...] = (USUAL_INVERSE_PENALTY,)
    if recipe.select == "best" and parts.validation is not None:
        validation = _features(checked, student, parts.validation, "validation", progress)
        tried = INVERSE_PENALTIES
    candidates = fit_candidates(
        train, validation, student.num_classes, inverse_penalties=tried, progress=progress
    )
    chosen = best_candidate(candidates)
    _put(layer, chosen.fit)
    _check_put(checked, student, parts.train, train, chosen.fit)
    record = EpochRecord(
        epoch=1,
        epochs=1,
        step=chosen.fit.steps,
        learning_rate=0.0,
        terms={"cross_entropy": chosen.fit.loss},
        validation={} if chosen.validation is None else chosen.validation.headline(),
        images_per_second=len(parts.train) / watched,
        seconds=time.perf_counter() - start,
        seconds_left=0.0,
        best=True,
    )
    return SolvedProbe(student.eval(), chosen, candidates, record)


def fit_candidates(
    train: FeatureTable,
    validation: FeatureTable | None,
    num_classes: int,
    *,
    inverse_penalties: Sequence[float],
    progress: Progress | None = None,
) -> tuple[Candidate, ...]:
    """Return a fit to the training features for each inverse penalty, with its scores on the validation features.

    Where the minimum is not reached for one, the larger ones are left out, which the watcher is told.
    Raises ``TrainingError`` where it is not reached for the first one.
    """
    watcher, candidates = progress or Silent(), list[Candidate]()
    fits = fit_logistic_path(
        train.embeddings, train.targets, num_classes, inverse_penalties=inverse_penalties
    )
    try:
        for fit in fits:
            report = None if validation is None else _report(fit, validation)
            candidates.append(Candidate(fit, report))
            watcher.advance("fitting", len(candidates), len(inverse_penalties))
            _check_stop(watcher)
    except TrainingError as error:
        if not candidates:
            raise
        watcher.message(f"{error}; these are left out")
    return tuple(candidates)


def best_candidate(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate of the highest validation accuracy, ties by the smaller negative log-likelihood.

    Of equals the first, and the first of all where nothing was scored.
    """
    return max(candidates, key=_rank)


def _rank(candidate: Candidate) -> tuple[float, float]:
    report = candidate.validation
    return (0.0, 0.0) if report is None else (report.acc1, -report.nll)


def _report(fit: LogisticFit, table: FeatureTable) -> ClassificationReport:
    sums = ScoreSums(len(fit.bias))
    sums.add(torch.addmm(fit.bias, table.embeddings, fit.weight.T), table.targets)
    return sums.report()


def _features(
    checked: CheckedRun, student: Classifier, part: Part, name: str, progress: Progress
) -> FeatureTable:
    try:
        return feature_table(
            student, evaluation_batches(checked, part), task=f"features of the {name} part", progress=progress
        )
    except Interrupted as stop:
        raise Interrupted(_STOPPED) from stop


def _check_stop(progress: Progress) -> None:
    if progress.should_stop():
        raise Interrupted(_STOPPED)


def _put(layer: nn.Linear, fit: LogisticFit) -> None:
    with torch.no_grad():
        layer.weight.copy_(fit.weight)
        layer.bias.copy_(fit.bias)


def _check_put(
    checked: CheckedRun, student: Classifier, part: Part, table: FeatureTable, fit: LogisticFit
) -> None:
    """Raise ``TrainingError`` where a network with a fit put in does not give the fit's logits of its first images.

    All scores of the run are of the network, those that chose the fit are of the features.
    """
    first = next(iter(evaluation_batches(checked, part).epoch(0)))
    with eval_mode(student), torch.no_grad():
        found = student(first.images).float().cpu()
    expected = torch.addmm(fit.bias, table.embeddings[: len(found)], fit.weight.T)
    error, largest = float((found - expected).abs().max()), float(expected.abs().max())
    if not error <= _TOLERANCE * largest:
        raise TrainingError(
            f"linear probe: {student.config.name!r} with the solved classifier put in gives other logits than the "
            f"classifier of the features (they differ by {error:.2g}, the largest is {largest:.2g}), so that its "
            "scores would not be those of the fit; freeze a number of stages instead (init.frozen), or take another "
            "network"
        )


__all__ = [
    "INVERSE_PENALTIES",
    "USUAL_INVERSE_PENALTY",
    "Candidate",
    "SolvedProbe",
    "best_candidate",
    "fit_candidates",
    "solve_probe",
]
