"""What a finished run's folder tells: scores, curve, speed, agreement with a teacher, later evaluations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from kdcam.comparison.table.evaluations import StoredEvaluations, read_evaluations
from kdcam.errors import CheckpointError
from kdcam.files.json_files_part import read_json
from kdcam.runs.metrics_log import read_metrics
from kdcam.runs.run_files import RECIPE_FILE, RESULT_FILE, find_state
from kdcam.scores.main_scores import MAIN_SCORES

AGREEMENT_FILE = "agreement.json"


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
    )  # mean KL(teacher || student) in nats; of several labels the mean of each class's binary one
    cam_similarity: float | None  # mean correlation of both CAMs of the label, in [-1, 1]
    caam_cam_similarity: float | None  # that of the student's CAAM and the teacher's CAM of the label


class Agreement(NamedTuple):
    """What agreement.json holds."""

    scores: AgreementScores
    checkpoint: str  # of the teacher
    sources: Mapping[str, Any]  # what it depends on: "teacher", "student"


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


def read_agreement(folder: Path) -> Agreement | None:
    """Return what was measured of a run's agreement with a teacher; None where nothing whole is there."""
    try:
        found = read_json(folder / AGREEMENT_FILE)
        sources = {name: found[name] for name in ("teacher", "student")}
        return Agreement(_agreement_scores(found), str(found["teacher"]["checkpoint"]), sources)
    except (CheckpointError, KeyError, OverflowError, TypeError, ValueError):
        return None  # it can be measured again at any time


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


def _agreement_scores(found: Mapping[str, Any]) -> AgreementScores:
    return AgreementScores(
        top1=float(found["top1"]),
        kl=_number(found["kl"]),
        cam_similarity=_number(found["cam_similarity"]),
        caam_cam_similarity=_number(found["caam_cam_similarity"]),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


__all__ = [
    "AGREEMENT_FILE",
    "Agreement",
    "AgreementScores",
    "PartScores",
    "RunMeasures",
    "read_agreement",
    "read_run",
]
