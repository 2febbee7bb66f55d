"""Scores against the share of wrong training labels: runs that differ in nothing else make one curve."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from kdcam.api import recipe_of
from kdcam.evaluation.robustness.memorisation import LabelNoiseReport
from kdcam.evaluation.robustness.robustness_file import RunRobustness
from kdcam.evaluation.robustness.robustness_plots import RobustnessCurve
from kdcam.recipe.train_recipe import TrainRecipe

_OF_A_POINT = {"rate", "seed"}  # of the noise: what the runs of one curve may differ in
_WITHOUT_EFFECT = {"description", "published", "seed"}  # of the recipe, or what a mean is taken over


class _NoisyRun(NamedTuple):
    """A run with what tells its curve from others."""

    run: RunRobustness
    report: LabelNoiseReport
    recipe: TrainRecipe
    method: str  # all of the recipe but the noise

    @property
    def noise(self) -> str | None:
        """The noise but for its rate and seed; None: trained without."""
        noise = self.recipe.data.noise
        return None if noise is None else noise.model_dump_json(exclude=_OF_A_POINT)

    @property
    def rate(self) -> float:
        """The nominal share of wrong labels, in percent; the realised one where labels were not drawn."""
        nominal = self.report.nominal_rate
        return round(100 * (self.report.realised_rate if nominal is None else nominal), 4)


def rate_curves(found: Sequence[RunRobustness]) -> list[RobustnessCurve]:
    """Return scores against the nominal share of wrong labels in percent, the mean over runs of one share.

    Runs whose recipes are the same but for seed and the noise's rate and seed make a curve for each score, where there
    are several shares; those trained without noise and otherwise alike join at 0.
    """
    runs = [_noisy(run, run.label_noise) for run in found if run.label_noise is not None]
    curves = []
    for method, noise in dict.fromkeys((one.method, one.noise) for one in runs if one.noise is not None):
        alike = [one for one in runs if one.method == method and one.noise in (noise, None)]
        first = next(one for one in alike if one.noise is not None)
        losses = " + ".join(loss.name for loss in first.recipe.loss)
        for score, points in _points(alike).items():
            if len(points) > 1:
                name = f"{losses}, {first.report.kind} noise (as {first.run.run.name}): {score}"
                curves.append(RobustnessCurve(name, points))
    return curves


def _noisy(run: RunRobustness, report: LabelNoiseReport) -> _NoisyRun:
    recipe = recipe_of(run.run)
    values = recipe.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
    values["data"].pop("noise")
    return _NoisyRun(run, report, recipe, json.dumps(values, sort_keys=True))


def _points(runs: Sequence[_NoisyRun]) -> dict[str, list[tuple[float, float]]]:
    """Return by score the points (percent of wrong labels, mean score), from left to right."""
    values: dict[str, dict[float, list[float]]] = {}
    for one in runs:
        for score, value in _scores(one.report).items():
            values.setdefault(score, {}).setdefault(one.rate, []).append(value)
    return {
        score: [(rate, sum(some) / len(some)) for rate, some in sorted(by_rate.items())]
        for score, by_rate in values.items()
    }


def _scores(report: LabelNoiseReport) -> dict[str, float]:
    kept = report.memorisation
    scores = {
        "clean test, selected epoch": report.selected_test_acc,
        "clean test, last epoch": report.last_test_acc,
        "wrong labels memorised": None if kept is None else kept.memorised,
    }
    return {name: score for name, score in scores.items() if score is not None}


__all__ = ["rate_curves"]
