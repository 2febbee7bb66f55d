"""What a finished run's folder tells: scores, curve, speed, agreement, later evaluations; without torch."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from kdcam.errors import CheckpointError
from kdcam.evaluation.few_shot.few_shot_schema import ONE_SHOT_RUNS, EpisodeScores
from kdcam.files.digests import weights_file_digest
from kdcam.files.json_files import read_json
from kdcam.files.paths import is_file
from kdcam.files.weight_location import MODEL_FILE
from kdcam.runs.run_files import (
    AGREEMENT_FILE,
    FEW_SHOT_FILE,
    LOCALIZATION_FILE,
    RECIPE_FILE,
    RESULT_FILE,
    VERIFICATION_FILE,
    find_state,
    read_metrics,
)
from kdcam.scores.main_scores import MAIN_SCORES


class PartScores(NamedTuple):
    """The main score of some weights on the parts that were held out, in [0, 1]; None where there is no such part."""

    validation: float | None
    test: float | None


class AgreementScores(NamedTuple):
    """How much a student's answers and maps on the test part are those of a teacher.

    None: it is no finite number, or not both networks have a map.
    """

    top1: float  # share of images of one top class; of several labels: share of (image, class) decisions
    kl: (
        float | None
    )  # mean KL(teacher || student), nats; of several labels the mean of each class's binary one
    cam_similarity: float | None  # mean correlation of both CAMs of the label, in [-1, 1]
    caam_cam_similarity: float | None  # that of the student's CAAM and the teacher's CAM of the label


class Agreement(NamedTuple):
    """What agreement.json holds."""

    scores: AgreementScores
    checkpoint: str  # of the teacher
    sources: Mapping[str, Any]  # what it depends on: "teacher", "student"


class EpisodeAccuracies(NamedTuple):
    """What the mean of few-shot accuracies was taken over."""

    episodes: str  # the digest of which images they are made of
    accuracies: tuple[float, ...]  # in [0, 1], one an episode


@dataclass(frozen=True)
class StoredEvaluation:
    """What one file says of a run's selected weights."""

    values: Mapping[str, float]  # the headline: shares in [0, 1] by name
    facts: str  # JSON of all that must be the same for numbers to be held against each other
    # By name, where a number is a mean over these.
    by_episode: Mapping[str, EpisodeAccuracies] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredEvaluations:
    """What all files of a run say."""

    found: Mapping[str, StoredEvaluation] = field(default_factory=dict)  # by kind
    left_out: tuple[str, ...] = ()  # why other files are not there


@dataclass(frozen=True)
class RunMeasures:
    """What one finished run came to."""

    selected: PartScores
    last: PartScores
    best_epoch: int | None  # the selected one, counted from 1; None: the run has no epochs
    curve: tuple[float | None, ...]  # validation score by epoch; empty without a validation part
    images_per_second: float | None  # in training; the median over the epochs; None: the run has none
    seconds: float  # of training, all epochs together
    parameters: int  # of the student
    test_images: int  # 0: there is no test part
    agreement: AgreementScores | None
    agreed_with: str | None  # the checkpoint of the teacher that ``agreement`` was measured against
    machine: Mapping[str, Any]
    versions: Mapping[str, str | None]
    evaluations: StoredEvaluations = field(default_factory=StoredEvaluations)
    solved: bool = False  # a linear probe whose classifier was solved, without steps or epochs


def read_run(folder: Path) -> RunMeasures:
    """Return what a finished run's folder tells.

    Raises ``CheckpointError`` where the run is not finished, or a file is damaged or of another layout.
    """
    if find_state(folder) != "finished":
        raise CheckpointError(f"{folder}: holds no finished run; run the same command again to finish it")
    recipe, result = read_json(folder / RECIPE_FILE), read_json(folder / RESULT_FILE)
    epochs = read_metrics(folder)
    try:
        return _measures(recipe, result, epochs, read_agreement(folder), read_evaluations(folder))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: its files lack something or have another layout ({error!r}); were they written by another "
            "version? Remove the folder and run the same command again"
        ) from error


def _measures(
    recipe: Mapping[str, Any],
    result: Mapping[str, Any],
    epochs: Sequence[Mapping[str, Any]],
    agreement: Agreement | None,
    evaluations: StoredEvaluations,
) -> RunMeasures:
    score = MAIN_SCORES[recipe["recipe"]["task"]]
    solved = "probe" in result
    curve = () if solved else tuple(_number(epoch["val"].get(score)) for epoch in epochs)
    return RunMeasures(
        selected=_part_scores(result["selected"], score),
        last=_part_scores(result["last"], score),
        best_epoch=None if solved else int(result["selected"]["epoch"]),
        curve=curve if any(value is not None for value in curve) else (),
        images_per_second=None if solved else median(float(epoch["images_per_second"]) for epoch in epochs),
        seconds=math.fsum(float(epoch["seconds"]) for epoch in epochs),
        parameters=int(result["parameters"]),
        test_images=int(result["images"]["test"]),
        agreement=None if agreement is None else agreement.scores,
        agreed_with=None if agreement is None else agreement.checkpoint,
        machine=dict(recipe["machine"]),
        versions=dict(recipe["versions"]),
        evaluations=evaluations,
        solved=solved,
    )


def _part_scores(scores: Mapping[str, Any], score: str) -> PartScores:
    return PartScores(*(_number((scores.get(part) or {}).get(score)) for part in PartScores._fields))


def read_agreement(folder: Path) -> Agreement | None:
    """Return what was measured of a run's agreement with a teacher; None where nothing whole is there."""
    try:
        found = read_json(folder / AGREEMENT_FILE)
        sources = {name: found[name] for name in ("teacher", "student")}
        return Agreement(_agreement_scores(found), str(found["teacher"]["checkpoint"]), sources)
    except (CheckpointError, KeyError, OverflowError, TypeError, ValueError):
        return None  # it can be measured again at any time


def _agreement_scores(found: Mapping[str, Any]) -> AgreementScores:
    return AgreementScores(
        top1=float(found["top1"]),
        kl=_number(found["kl"]),
        cam_similarity=_number(found["cam_similarity"]),
        caam_cam_similarity=_number(found["caam_cam_similarity"]),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


class EvaluationKind(NamedTuple):
    """One kind of evaluation."""

    file: str  # in the run folder
    images: tuple[str, ...]  # keys that tell the images that were asked about, and what was taken of them
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
    images = [_value_at(content, key) for key in kind.images]
    return json.dumps([settings, images], sort_keys=True)


def _value_at(content: Mapping[str, Any], dotted_key: str) -> Any:
    """Return the value of ``map`` or ``novel.classes``; of a list of tables that in the first, of null None."""
    name, _, key = dotted_key.partition(".")
    table = content[name]
    if key and isinstance(table, list):
        table = table[0]
    return table if table is None or not key else table[key]


_KIND_TITLES = {"one-shot": "few-shot"}
_MEASURE_TITLES = {
    "auc": "area under the ROC curve",
    "eer": "equal error rate",
    "max_box_acc_v2": "MaxBoxAccV2",
    "max_box_acc_v1": "MaxBoxAcc (V1)",
    "pointing": "pointing game",
    "energy": "energy inside the box",
}


def evaluation_title(kind: str, name: str) -> str:
    """Return how a number of a kind of evaluation is called in a table."""
    return f"{_KIND_TITLES.get(kind, kind)}: {_MEASURE_TITLES.get(name, name)}"


__all__ = [
    "EVALUATION_KINDS",
    "Agreement",
    "AgreementScores",
    "EpisodeAccuracies",
    "EvaluationKind",
    "PartScores",
    "RunMeasures",
    "StoredEvaluation",
    "StoredEvaluations",
    "evaluation_title",
    "headline_of",
    "read_agreement",
    "read_evaluations",
    "read_run",
]
