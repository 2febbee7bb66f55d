"""The linear probe of a run: features of the images once, and the classifier on them solved."""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

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
from kdcam.training.preflight import CheckedRun

INVERSE_PENALTIES: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
"""What is tried on the validation part (scikit-learn's C, for standardised features); kdcam's choice."""

USUAL_INVERSE_PENALTY = 1.0
"""Where nothing is selected: scikit-learn's default."""

# All kdcam's choice.
_LOGIT_TOLERANCE = 1e-2  # of the largest logit; rounding gives 1e-6, TF32 on a GPU 1e-3
_GRADIENT_TOLERANCES = {torch.float64: 1e-7, torch.float32: 1e-5}  # of the scaled gradient's largest entry
_LEAST_CHANGE = {torch.float64: 0.0, torch.float32: 1e-9}  # of the objective; below it all is rounding
_STEPS = 2000
_HISTORY = 10  # of the gradients that L-BFGS remembers

_STOPPED = "the linear probe was stopped, and nothing of it is kept"


class LogisticFit(NamedTuple):
    """A linear classifier of features: ``logits = features @ weight.T + bias``."""

    weight: Tensor  # (K, E)
    bias: Tensor  # (K,)
    inverse_penalty: float  # scikit-learn's C
    loss: float  # mean cross-entropy of the features it was fitted to, in nats, without the penalty
    steps: int  # of L-BFGS


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


# Why a linear probe is solved: docs/decisions/018.
def solve_probe(checked: CheckedRun, parts: DataParts, *, progress: Progress) -> SolvedProbe:
    """Return the student of an `is_solved_probe` recipe, its classifier of least cross-entropy on the training part.

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
    feature_seconds = time.perf_counter() - start
    validation: FeatureTable | None = None
    tried: tuple[float, ...] = (USUAL_INVERSE_PENALTY,)
    if recipe.select == "best" and parts.validation is not None:
        validation = _features(checked, student, parts.validation, "validation", progress)
        tried = INVERSE_PENALTIES
    candidates = fit_candidates(
        train, validation, student.num_classes, inverse_penalties=tried, progress=progress
    )
    chosen = best_candidate(candidates)
    _set_classifier(layer, chosen.fit)
    _check_logits(checked, student, parts.train, train, chosen.fit)
    record = EpochRecord(
        epoch=1,
        epochs=1,
        step=chosen.fit.steps,
        learning_rate=0.0,
        terms={"cross_entropy": chosen.fit.loss},
        validation={} if chosen.validation is None else chosen.validation.headline(),
        images_per_second=len(parts.train) / feature_seconds,
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


def _set_classifier(layer: nn.Linear, fit: LogisticFit) -> None:
    with torch.no_grad():
        layer.weight.copy_(fit.weight)
        layer.bias.copy_(fit.bias)


def _check_logits(
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
    if not error <= _LOGIT_TOLERANCE * largest:
        raise TrainingError(
            f"linear probe: {student.config.name!r} with the solved classifier put in gives other logits than the "
            f"classifier of the features (they differ by {error:.2g}, the largest is {largest:.2g}), so that its "
            "scores would not be those of the fit; freeze a number of stages instead (init.frozen), or take another "
            "network"
        )


def fit_logistic(
    features: Tensor, targets: Tensor, num_classes: int, *, inverse_penalty: float = 1.0
) -> LogisticFit:
    """Return the minimum of ``sum of cross-entropies + |W|^2 / (2 C)`` over classifiers of standardised features.

    C is the inverse penalty, W the weights. This is the objective of scikit-learn's
    ``make_pipeline(StandardScaler(), LogisticRegression(C=C))``: each feature minus its mean over its standard
    deviation, the bias without penalty. Mean and deviation are folded into weight and bias, so that the result reads
    the features as they are; a feature that never changes has no weight.

    Args:
        features: (N, E), float32 or float64, on any device; the work is done in its precision.
        targets: (N,) int64 labels.
        num_classes: K, 2 or more; a class may be without features.
        inverse_penalty: C, above 0; the smaller, the smaller the weights.

    Raises:
        TrainingError: a feature is not finite, or the minimum was not reached.
    """
    return next(fit_logistic_path(features, targets, num_classes, inverse_penalties=[inverse_penalty]))


def fit_logistic_path(
    features: Tensor, targets: Tensor, num_classes: int, *, inverse_penalties: Sequence[float]
) -> Iterator[LogisticFit]:
    """Yield the fit of `fit_logistic` for each inverse penalty, each search begun where the one before ended.

    L-BFGS (Liu and Nocedal 1989) on all features at once, along their main axes, each scaled by its curvature: a few
    dozen steps. Rising inverse penalties are the quicker order.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; allowed: 2 or more")
    if any(not penalty > 0 for penalty in inverse_penalties):
        raise ValueError(f"inverse_penalties are {list(inverse_penalties)}; allowed: numbers above 0")
    axes = _main_axes(features)
    start = torch.zeros(num_classes, len(axes.variances) + 1).to(axes.features)
    for inverse_penalty in inverse_penalties:
        decay = 1 / (inverse_penalty * len(targets))
        scales = _scales(axes.variances, num_classes, decay)
        start, steps = _minimum(_Problem(axes.features, targets[:, None], decay, scales), start)
        weight, bias = start[:, :-1], start[:, -1]
        loss = _cross_entropy(axes.features, targets, weight, bias)
        of_features = weight @ axes.basis.T / axes.deviation
        yield LogisticFit(of_features, bias - of_features @ axes.mean, inverse_penalty, loss, steps)


class _Axes(NamedTuple):
    """Standardised features in their main axes: no solution has a weight outside these."""

    features: Tensor  # (N, R), R at most min(N, E)
    variances: Tensor  # (R,) of these, above 0
    basis: Tensor  # (E, R), orthonormal columns
    mean: Tensor  # (E,)
    deviation: Tensor  # (E,); 1 where a feature never changes


def _main_axes(features: Tensor) -> _Axes:
    if not bool(torch.isfinite(features).all()):
        raise TrainingError(
            "linear probe: a feature is not a finite number; start from a checkpoint that was not broken in training"
        )
    images, size = features.shape
    mean = features.double().mean(0).to(features.dtype)
    centred = features - mean
    deviation = centred.square().mean(0, dtype=torch.float64).sqrt().to(features.dtype)
    # Equal values may differ from their rounded mean.
    constant = deviation <= 10 * torch.finfo(features.dtype).eps * mean.abs()
    deviation = torch.where(constant, 1, deviation)
    centred = torch.where(constant, 0, centred) / deviation
    if images < size:
        variances, vectors = torch.linalg.eigh((centred @ centred.T / images).double())
    else:
        variances, vectors = torch.linalg.eigh((centred.T @ centred / images).double())
    kept = variances > max(images, size) * torch.finfo(features.dtype).eps * variances[-1].clamp(min=0)
    variances, vectors = variances[kept], vectors[:, kept]
    if images < size:
        vectors = centred.T.double() @ vectors / (images * variances).sqrt()
    basis = vectors.to(features.dtype)
    return _Axes(centred @ basis, variances.to(features.dtype), basis, mean, deviation)


class _Problem(NamedTuple):
    """One objective: mean cross-entropy + ``decay`` / 2 |W|^2, of weights (K, R) along the main axes and biases.

    They are given together as (K, R + 1), divided by ``scales``.
    """

    features: Tensor  # (N, R)
    targets: Tensor  # (N, 1)
    decay: float
    scales: Tensor  # (R + 1,)

    def value_and_gradient(self, scaled: Tensor) -> tuple[float, Tensor]:
        """Return both at scaled weights and biases (K, R + 1)."""
        weight, bias = (scaled * self.scales).split([len(self.scales) - 1, 1], 1)
        logs = _log_probabilities(self.features, weight, bias[:, 0])
        value = _mean_loss(logs, self.targets) + 0.5 * self.decay * float(weight.double().square().sum())
        # By hand and in place: autograd keeps several (N, K) at once.
        wrong = logs.exp_()
        wrong.scatter_add_(1, self.targets, wrong.new_full(self.targets.shape, -1.0))
        wrong /= len(wrong)
        gradient = torch.cat([wrong.T @ self.features + self.decay * weight, wrong.sum(0)[:, None]], 1)
        return value, gradient * self.scales

    def in_float64(self) -> "_Problem":
        """Return the same problem in float64."""
        return self._replace(features=self.features.double(), scales=self.scales.double())


def _scales(variances: Tensor, num_classes: int, decay: float) -> Tensor:
    """Return how far to step along each axis (R,) and for the bias, (R + 1,): curvature is then the same along all.

    At weights of 0 each class has the probability 1 / K, and the second derivative along an axis is about its variance
    / K + decay (Boehning 1992, "Multinomial logistic regression algorithm").
    """
    bias = variances.new_full((1,), 1 / num_classes)
    return torch.cat([variances / num_classes + decay, bias]).rsqrt()


def _minimum(problem: _Problem, start: Tensor) -> tuple[Tensor, int]:
    """Return the best weights and biases (K, R + 1), found from ``start`` on, and the number of steps."""
    tolerance = _GRADIENT_TOLERANCES[start.dtype]
    scaled, steps, left = _search(problem, start / problem.scales, tolerance)
    if left > tolerance and start.dtype == torch.float32:
        # Of few images, say, where rounding hides the last of the decrease.
        scaled, more, left = _search(problem.in_float64(), scaled.double(), tolerance)
        steps += more
    if not left <= tolerance:
        raise TrainingError(
            f"linear probe: the minimum was not reached in {steps} steps (a gradient of {left:.1e} is left); take a "
            f"smaller inverse penalty than {1 / (problem.decay * len(problem.targets)):g}"
        )
    return scaled.to(start.dtype) * problem.scales, steps


def _search(problem: _Problem, start: Tensor, tolerance: float) -> tuple[Tensor, int, float]:
    """Return where L-BFGS ends, after how many steps, and the largest entry of the gradient there."""
    scaled = start.clone()
    search = torch.optim.LBFGS(
        [scaled],
        max_iter=_STEPS,
        max_eval=2 * _STEPS,
        history_size=_HISTORY,
        tolerance_grad=tolerance,
        tolerance_change=_LEAST_CHANGE[start.dtype],
        line_search_fn="strong_wolfe",
    )

    def objective() -> float:
        value, scaled.grad = problem.value_and_gradient(scaled)
        return value

    search.step(objective)
    _, gradient = problem.value_and_gradient(scaled)
    return scaled, int(search.state[scaled]["n_iter"]), float(gradient.abs().max())


def _cross_entropy(features: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> float:
    return _mean_loss(_log_probabilities(features, weight, bias), targets[:, None])


def _log_probabilities(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.addmm(bias, features, weight.T).log_softmax(1)


def _mean_loss(log_probabilities: Tensor, targets: Tensor) -> float:
    # In float64: at the end of a search the decrease is below what float32 tells apart.
    return -float(log_probabilities.gather(1, targets).mean(dtype=torch.float64))


__all__ = [
    "INVERSE_PENALTIES",
    "USUAL_INVERSE_PENALTY",
    "Candidate",
    "LogisticFit",
    "SolvedProbe",
    "best_candidate",
    "fit_candidates",
    "fit_logistic",
    "fit_logistic_path",
    "solve_probe",
]
