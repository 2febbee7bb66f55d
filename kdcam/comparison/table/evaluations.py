"""What later evaluations of a run left in its folder: few-shot, verification, localization; read without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kdcam.errors import CheckpointError
from kdcam.evaluation.few_shot.report import ONE_SHOT_RUNS, EpisodeScores
from kdcam.files.digests import weights_file_digest
from kdcam.files.json_files_part import read_json
from kdcam.files.paths import is_file
from kdcam.runs.run_files import FEW_SHOT_FILE, LOCALIZATION_FILE, MODEL_FILE, VERIFICATION_FILE


class EvaluationKind(NamedTuple):
    """One kind of evaluation."""

    file: str  # in the run folder
    images: tuple[str, ...]  # where the images that were asked about, and what was taken of them, are told
    choices: frozenset[str] = frozenset()  # settings that only say which numbers there are, or are of others
    # One file may hold several kinds: of which list of scores the numbers are, by name; None: of all of them.
    scores: str | None = None


_SIZES = frozenset({"classes", "episodes", "queries", "ways"})
_HEADS = frozenset({"fine_tune_last_stage", "heads", "shots"})
EVALUATION_KINDS: Mapping[str, EvaluationKind] = {
    "few-shot": EvaluationKind(
        FEW_SHOT_FILE, ("novel.classes", "novel.targets", "novel.content"), _HEADS, scores="scores"
    ),
    "one-shot": EvaluationKind(FEW_SHOT_FILE, ("one_shot.images",), _HEADS | _SIZES, scores="one_shot"),
    "verification": EvaluationKind(
        # The digest tells the folds; people that a run was trained on make its numbers others, allowed or not.
        VERIFICATION_FILE,
        ("pairs.sha256", "seen"),
        frozenset({"allow_seen", "far", "folds"}),
    ),
    "localization": EvaluationKind(
        LOCALIZATION_FILE,
        ("evaluated.sha256", "map", "map_of", "resolution"),  # what all settings but a few come to
        frozenset(
            {
                "box_ends",
                "boxes",
                "class_column",
                "map",
                "map_of",
                "n_examples",
                "part",
                "resolution",
                "root",
            }
        ),
    ),
}

_TITLES = {"one-shot": "few-shot"}
_WORDS = {
    "auc": "area under the ROC curve",
    "eer": "equal error rate",
    "max_box_acc_v2": "MaxBoxAccV2",
    "max_box_acc_v1": "MaxBoxAcc (V1)",
    "pointing": "pointing game",
    "energy": "energy inside the box",
}


@dataclass(frozen=True)
class StoredEvaluation:
    """What one file says of a run's selected weights."""

    values: Mapping[str, float]  # the headline: shares in [0, 1] by name
    facts: str  # JSON of all that must be the same for numbers to be held against each other
    by_episode: Mapping[str, "EpisodeAccuracies"] = field(
        default_factory=dict
    )  # by name, where a number is a mean over these


class EpisodeAccuracies(NamedTuple):
    """What the mean of few-shot accuracies was taken over."""

    episodes: str  # the digest of which images they are made of
    accuracies: tuple[float, ...]  # in [0, 1], one an episode


@dataclass(frozen=True)
class StoredEvaluations:
    """What all files of a run say."""

    found: Mapping[str, StoredEvaluation] = field(default_factory=dict)  # by kind
    left_out: tuple[str, ...] = ()  # why other files are not there


def read_evaluations(folder: Path) -> StoredEvaluations:
    """Return the headlines in a run folder; files that are damaged or of other weights are left out, and told."""
    found, left_out = dict[str, StoredEvaluation](), list[str]()
    there = {name: kind for name, kind in EVALUATION_KINDS.items() if is_file(folder / kind.file)}
    weights = weights_file_digest(folder / MODEL_FILE) if there else None
    for name, kind in there.items():
        try:
            content = read_json(folder / kind.file)
            if content["model"] != weights:
                left_out.append(f"{kind.file} is of other weights than {MODEL_FILE}")
                continue
            values = _values(content, kind)
            if values:
                found[name] = StoredEvaluation(
                    values, _comparable_facts(content, kind), _by_episode(content, kind)
                )
        except (AttributeError, CheckpointError, KeyError, OverflowError, TypeError, ValueError):
            left_out.append(f"{kind.file} is damaged or of another layout")
    return StoredEvaluations(found, tuple(dict.fromkeys(left_out)))


def headline_of(content: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a file's headline by name, of means with an interval the mean; None is left out."""
    means = {
        name: value["mean"] if isinstance(value, Mapping) else value
        for name, value in content["headline"].items()
    }
    return {name: float(value) for name, value in means.items() if value is not None}


def evaluation_title(kind: str, name: str) -> str:
    """Return how a number of a kind of evaluation is called in a table."""
    return f"{_TITLES.get(kind, kind)}: {_WORDS.get(name, name)}"


def _values(content: Mapping[str, Any], kind: EvaluationKind) -> dict[str, float]:
    values = headline_of(content)
    if kind.scores is None:
        return values
    one_shot = {name for name in values if name.startswith(ONE_SHOT_RUNS)}
    wanted = one_shot if kind.scores == "one_shot" else values.keys() - one_shot
    return {name: value for name, value in values.items() if name in wanted}


def _by_episode(content: Mapping[str, Any], kind: EvaluationKind) -> dict[str, EpisodeAccuracies]:
    if kind.scores != "scores":
        return {}
    scores = [EpisodeScores(**one) for one in content["scores"]]
    return {one.name: EpisodeAccuracies(one.episodes, tuple(one.accuracies)) for one in scores}


def _comparable_facts(content: Mapping[str, Any], kind: EvaluationKind) -> str:
    settings = {key: value for key, value in content["settings"].items() if key not in kind.choices}
    images = [_value_at(content, place) for place in kind.images]
    return json.dumps([settings, images], sort_keys=True)


def _value_at(content: Mapping[str, Any], place: str) -> Any:
    """Return what stands at a place (``map``, ``novel.classes``); of a list of tables in the first, of null None."""
    name, _, key = place.partition(".")
    table = content[name]
    if key and isinstance(table, list):
        table = table[0]
    return table if table is None or not key else table[key]


__all__ = [
    "EVALUATION_KINDS",
    "EpisodeAccuracies",
    "EvaluationKind",
    "StoredEvaluation",
    "StoredEvaluations",
    "evaluation_title",
    "headline_of",
    "read_evaluations",
]
