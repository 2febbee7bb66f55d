"""How much a finished run agrees with a teacher on the test part: answers and maps."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from kdcam.cam.maps import caam, map_similarity, target_cam
from kdcam.comparison.table.run_measures import AgreementScores, read_agreement
from kdcam.data.batches.batch import Batch
from kdcam.data.dataset_parts import DataParts, DataSummary
from kdcam.errors import CheckpointError, ModelError
from kdcam.files.digests import file_digest
from kdcam.files.json_files import json_form, read_json, write_json
from kdcam.files.weight_location import MODEL_FILE
from kdcam.models.classifier import Classifier, Outputs, Task, translate_image_errors
from kdcam.models.inspection import check_cam
from kdcam.recipe.recipe_fields import TeacherConfig
from kdcam.runs.open_run import LoadedRun, load_run
from kdcam.runs.resume_rules import WeightDigests, checkpoint_digest
from kdcam.runs.run_files import AGREEMENT_FILE, RESULT_FILE
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.numerics import FiniteCheck
from kdcam.runtime.progress import Progress, Silent
from kdcam.scores.classification import THRESHOLD
from kdcam.training.teachers.live_teacher import check_class_order, load_teacher


def measure_agreement(
    run: Path,
    teacher: TeacherConfig,
    *,
    device: str = "auto",
    data: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> None:
    """Write agreement.json into a finished run's folder: its selected weights against a teacher on the test part.

    Nothing is done where the file is there for this teacher and these weights, or where there is no test part.
    ``data``: where the run's data lies now; see `kdcam.runs.open_run.load_run`.

    Raises ``CheckpointError``, ``DataError``, ``ModelError`` or ``RecipeError`` where the run, its data or the teacher
    cannot be read any more or do not fit each other.
    """
    if is_measured(run, teacher):
        return
    loaded = load_run(run, device=device, data=data, progress=progress)
    network = load_teacher(teacher, _summary(loaded.parts), task=loaded.recipe.task, fetches=True)
    check_class_order(teacher.checkpoint, network.label_names, loaded.parts.label_names)
    network = network.to(loaded.classifier.mean.device)
    scores = agreement_scores(loaded, network, progress=progress or Silent())
    write_json(run / AGREEMENT_FILE, {**scores._asdict(), "part": "test", **_sources(run, teacher, {})})


def is_measured(run: Path, teacher: TeacherConfig, digests: WeightDigests | None = None) -> bool:
    """Return whether a finished run's agreement with a teacher is known, or cannot be: without a test part.

    ``digests``: those of teachers that have been read already. A damaged agreement.json counts as none. Raises
    ``CheckpointError`` where result.json is damaged.
    """
    if _test_images(run) == 0:
        return True
    found, now = read_agreement(run), json_form(_sources(run, teacher, digests or {}))
    if found is None:
        return False
    if now["teacher"]["sha256"] is None:
        # Removed since: what was measured with it stays true.
        now["teacher"]["sha256"] = found.sources["teacher"].get("sha256")
    return bool(found.sources == now)


def _test_images(run: Path) -> int:
    try:
        return int(read_json(run / RESULT_FILE)["images"]["test"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{run / RESULT_FILE}: does not tell the number of test images; remove the folder and run it again"
        ) from error


def agreement_scores(run: LoadedRun, teacher: Classifier, *, progress: Progress) -> AgreementScores:
    """Return how far a run agrees with a teacher on the run's test part; both are on one device.

    Raises ``DataError`` where the run has no test part, ``ModelError`` where the teacher cannot read its images or the
    logits of one of them are not finite.
    """
    batches = run.batches(run.part("test"))
    student = run.classifier
    black = torch.zeros(1, run.parts.channels, run.parts.image_size, run.parts.image_size)
    have_maps = [_has_map(network, black.to(student.mean.device)) for network in (student, teacher)]
    maps = all(have_maps)
    finite = {"student": FiniteCheck(), "teacher": FiniteCheck()}
    top1, kl, similarities = list[Tensor](), list[Tensor](), list[Tensor]()
    with eval_mode(student), eval_mode(teacher), torch.no_grad():
        for done, batch in enumerate(batches.epoch(0), start=1):
            ours, theirs = student.outputs(batch.images), teacher.outputs(batch.images)
            for role, outputs in (("student", ours), ("teacher", theirs)):
                finite[role].take(outputs.logits)
            same, apart = compare_logits(ours.logits, theirs.logits, task=run.recipe.task)
            top1.append(same)
            kl.append(apart)
            if maps:
                similarities.append(_map_similarities(ours, theirs, batch))
            progress.advance("agreement with the teacher", done, len(batches))
    for role, check in finite.items():
        check.require(f"agreement with the teacher: {role}")
    cams = torch.cat(similarities) if maps else torch.empty(0, 2)
    return AgreementScores(
        top1=_mean(torch.cat(top1)),
        kl=_finite(_mean(torch.cat(kl))),
        cam_similarity=_mean(cams[:, 0]) if len(cams) else None,
        caam_cam_similarity=_mean(cams[:, 1]) if len(cams) else None,
    )


def compare_logits(student: Tensor, teacher: Tensor, *, task: Task) -> tuple[Tensor, Tensor]:
    """Return for each image how far two networks' logits (N, K) agree, as float64 on the CPU.

    One label an image: (N,) 1 where the top classes are the same, else 0; and (N,) the divergence
    KL(teacher || student) of their softmax probabilities, in nats. Several labels: the share of the classes on
    whose presence they decide alike, and the mean over the classes of the divergence of their sigmoids.
    """
    ours, theirs = student.cpu().double(), teacher.cpu().double()
    if task == "multi-label":
        border = math.log(THRESHOLD / (1 - THRESHOLD))
        same = ((ours > border) == (theirs > border)).double().mean(1)
        present = theirs.sigmoid() * (logsigmoid(theirs) - logsigmoid(ours))
        absent = (-theirs).sigmoid() * (logsigmoid(-theirs) - logsigmoid(-ours))
        return same, (present + absent).mean(1)
    same = (ours.argmax(1) == theirs.argmax(1)).double()
    apart = theirs.softmax(1) * (theirs.log_softmax(1) - ours.log_softmax(1))
    return same, apart.sum(1)


def _map_similarities(ours: Outputs, theirs: Outputs, batch: Batch) -> Tensor:
    """Return (M, 2): CAM against CAM and CAAM against CAM, of the images that have a label."""
    their_cam = _label_cam(theirs, batch.targets)
    assert ours.feature_map is not None
    maps = (_label_cam(ours, batch.targets), caam(ours.feature_map))
    similar = torch.stack([map_similarity(one, their_cam) for one in maps], dim=1)
    return similar.cpu() if batch.targets.ndim == 1 else similar[batch.targets.any(1)].cpu()


def _label_cam(outputs: Outputs, targets: Tensor) -> Tensor:
    assert outputs.feature_map is not None
    assert outputs.weight is not None
    return target_cam(outputs.feature_map, outputs.weight, targets)


def _has_map(classifier: Classifier, image: Tensor) -> bool:
    """Return whether a network has an exact CAM, and for such an image (1, C, H, W) one of several positions."""
    with (
        eval_mode(classifier),
        torch.no_grad(),
        translate_image_errors(classifier.config.name, tuple(image.shape[1:])),
    ):
        feature_map = classifier.outputs(image).feature_map
    if feature_map is None or feature_map[0, 0].numel() == 1:
        return False
    try:
        check_cam(classifier)
    except ModelError:
        return False
    return True


def _mean(values: Tensor) -> float:
    return math.fsum(values.tolist()) / len(values)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _summary(parts: DataParts) -> DataSummary:
    return DataSummary(parts.label_names, parts.channels, parts.image_size, len(parts.train), "")


def _sources(run: Path, teacher: TeacherConfig, digests: WeightDigests) -> dict[str, Any]:
    """Return what the agreement of a run and a teacher depends on."""
    return {"teacher": _identity(teacher, digests), "student": file_digest(run / MODEL_FILE)}


def _identity(teacher: TeacherConfig, digests: WeightDigests) -> dict[str, Any]:
    """Return what tells one teacher from another; how its outputs are kept does not."""
    facts = teacher.model_dump(mode="json", include={"checkpoint", "name", "mean", "std"})
    checkpoint = teacher.checkpoint
    known = digests[checkpoint] if checkpoint in digests else checkpoint_digest(checkpoint)
    return {**facts, "sha256": known}


__all__ = ["agreement_scores", "compare_logits", "is_measured", "measure_agreement"]
