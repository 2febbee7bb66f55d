"""What is asked of a verification, and what it found of one run; no torch is imported here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy
from pydantic import Field, ValidationError, field_validator

from kdcam.data.verification_pairs import Flags, Numbers
from kdcam.evaluation.verification.verification_metrics import (
    FoldScore,
    RocCurve,
    Thresholds,
    TrueAccepts,
    Values,
    area_under_curve,
    equal_error_rate,
    fold_scores,
    roc_corners,
    roc_curve,
    true_accepts,
)
from kdcam.settings.validation import Settings, settings_error


class VerificationSettings(Settings):
    """Folds, thresholds and rates; the defaults follow insightface (recognition/arcface_torch/eval/verification.py)."""

    folds: int | None = Field(
        None, ge=2, description="contiguous blocks of the pairs' order; none: the file's own folds, else 10"
    )
    flip: bool = Field(True, description="add the mirrored picture's embedding before it is normalised")
    thresholds: Thresholds = Field(
        "grid",
        description="grid: squared distances 0, 0.01 ... 3.99, for rates by 0.001; midpoints: all between neighbouring "
        "distances of the other folds",
    )
    far: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (1e-3, 1e-2),
        description="false accept rates at which the share of accepted pairs of one person is told",
    )
    allow_seen: bool = Field(False, description="also where a run was trained on people of the pairs")

    @field_validator("far")
    @classmethod
    def _no_repeats(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(rates)) < len(rates):
            raise ValueError("a rate stands there more than once; name each once")
        return rates


def verification_settings(keys: Mapping[str, Any]) -> VerificationSettings:
    """Return the settings that ``keys`` change; ``RecipeError`` names what is wrong with them."""
    try:
        return VerificationSettings.model_validate(dict(keys))
    except ValidationError as error:
        raise settings_error(error, VerificationSettings, command="verify") from None


@dataclass(frozen=True)
class VerificationScores:
    """How well distances tell pairs of one person from pairs of two."""

    folds: tuple[FoldScore, ...]
    true_accepts: tuple[TrueAccepts, ...]  # one for each rate asked for
    auc: float  # area under the ROC curve of all pairs, in [0, 1]
    eer: float  # equal error rate of all pairs, in [0, 1]
    curve: RocCurve  # without the points between corners

    @property
    def accuracy(self) -> float:
        """The mean over folds, in [0, 1]."""
        return float(numpy.mean([fold.accuracy for fold in self.folds]))

    @property
    def std(self) -> float:
        """The standard deviation of the folds' accuracies, divided by their number, as in insightface."""
        return float(numpy.std([fold.accuracy for fold in self.folds]))

    @property
    def threshold(self) -> float:
        """The mean of the folds' thresholds, a squared distance."""
        return float(numpy.mean([fold.threshold for fold in self.folds]))


def verification_scores(
    distances: Values,
    same: Flags,
    folds: Numbers,
    settings: VerificationSettings,
) -> VerificationScores:
    """Return all scores of squared distances (P,); see `kdcam.evaluation.verification.verification_metrics`."""
    curve = roc_curve(distances, same)
    return VerificationScores(
        fold_scores(distances, same, folds, thresholds=settings.thresholds),
        tuple(
            true_accepts(distances, same, folds, far=far, thresholds=settings.thresholds)
            for far in settings.far
        ),
        area_under_curve(curve),
        equal_error_rate(curve),
        roc_corners(curve),
    )


@dataclass(frozen=True)
class VerificationReport:
    """The verification of one run."""

    run: Path
    model: str  # the SHA-256 of its weights
    weights: str  # selected or last
    settings: VerificationSettings
    pairs: Mapping[str, Any]  # which pairs, see `kdcam.data.verification_pairs.Pairs.summary`
    seen: tuple[str, ...]  # people of the pairs that the run was trained on: none unless they were allowed
    blank: int  # pictures whose embedding is all zeros, so that its distances say nothing
    scores: VerificationScores

    def headline(self) -> dict[str, float]:
        """Return the main numbers by name, shares in [0, 1]."""
        rates = {f"tar at far {one.far:g}": one.mean for one in self.scores.true_accepts}
        return {"accuracy": self.scores.accuracy, **rates, "auc": self.scores.auc, "eer": self.scores.eer}

    def to_json(self) -> dict[str, Any]:
        """Return everything in a form that JSON takes."""
        scores = self.scores
        return {
            "headline": self.headline(),
            "settings": self.settings.model_dump(mode="json"),
            "model": self.model,
            "weights": self.weights,
            "pairs": dict(self.pairs),
            "seen": list(self.seen),
            "blank": self.blank,
            "accuracy_std": scores.std,
            "folds": [fold._asdict() for fold in scores.folds],
            "true_accepts": [one._asdict() for one in scores.true_accepts],
            "roc": {"far": scores.curve.far.tolist(), "tar": scores.curve.tar.tolist()},
            "spread": "standard deviation over folds, divided by their number",
        }


def spread_text(mean: float, std: float) -> str:
    """Return a mean share and its standard deviation in per cent."""
    return f"{100 * mean:.2f} ± {100 * std:.2f}%"


def rate_notes(content: Mapping[str, Any]) -> list[str]:
    """Return what is to be known of false accept rates below one pair, of the content of verification.json."""
    pairs, fine = content["pairs"], content["settings"]["thresholds"] == "midpoints"
    # A threshold is found on all folds but one.
    others = pairs["of_two"] * (pairs["folds"] - 1) / pairs["folds"]
    by = "lets none pass" if fine else "is interpolated between none and one"
    return [
        f"FAR {one['far']:g} is less than one of the {others:.0f} pairs of two that a threshold is found on: it {by}"
        for one in content["true_accepts"]
        if one["far"] * others < 1
    ]


__all__ = [
    "VerificationReport",
    "VerificationScores",
    "VerificationSettings",
    "rate_notes",
    "spread_text",
    "verification_scores",
    "verification_settings",
]
