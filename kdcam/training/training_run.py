"""One run, from checked recipe to result: all is put together, the engine runs, results are saved."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdcam.data.dataset_parts import DataParts, absent_warnings
from kdcam.data.datasets import load_data
from kdcam.errors import CheckpointError, Interrupted
from kdcam.files.digests import weights_digest
from kdcam.files.weight_location import location_kind
from kdcam.models.classifier import Classifier
from kdcam.models.heads import logits_layer_name
from kdcam.recipe.table_checks import idle_settings, is_solved_probe
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runs.checkpoint import STATE_FILE, load_classifier, load_resume, save_model, save_resume
from kdcam.runs.picture_record import (
    check_training_data,
    pictures_bytes,
    pictures_digest,
    record_pictures,
    training_data,
    write_noisy_labels,
    write_pictures,
)
from kdcam.runs.run_data import resumed_data, warn_of_changed_data, warn_of_seen
from kdcam.runs.run_files import RESUME_FOLDER, Resume, find_state, has_saved_state
from kdcam.runs.run_folder import RunFolder
from kdcam.runtime.memory import memory_errors
from kdcam.runtime.progress import EpochRecord, Progress
from kdcam.scores.classification import score
from kdcam.scores.main_scores import MAIN_SCORES, selection_words
from kdcam.settings.messages import first_few, listed
from kdcam.training.assembly import assemble, evaluation_batches
from kdcam.training.engine import TrainState, fit
from kdcam.training.length_warnings import length_warnings
from kdcam.training.linear_probe import solve_probe
from kdcam.training.preflight import CheckedRun, with_class_names
from kdcam.training.saved_state import capture_state, restore_state
from kdcam.training.teachers.cached_teacher import cache_teachers, cached_views
from kdcam.training.teachers.live_teacher import live_classifiers, score_teachers

_LESS_DATA = "lower data.image_size or data.fraction, or end other programs"
_LESS_WORK = (
    "lower batch_size (with accumulate as much higher the update stays the same but for batch statistics), "
    "data.image_size or data.workers, or take a smaller model.name"
)
_TEST_READ = "the test part, where there is one, was read once, after it"


@dataclass(frozen=True)
class RunResult:
    """Where a run lies and what came out of it."""

    path: Path
    result: dict[str, Any]  # as in result.json
    was_finished: bool  # it had been finished before, and nothing was done now


class FolderCheckpointer:
    """Saves a run's states and results in its run folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def save(self, state: TrainState) -> None:
        """Write resume/."""
        save_resume(self.folder.path, capture_state(state))

    def select(self, state: TrainState) -> None:
        """Write model.safetensors and config.json."""
        save_model(self.folder.path, state.scored)

    def record(self, record: EpochRecord) -> None:
        """Add a line to metrics.jsonl."""
        self.folder.append_metrics(
            {
                "epoch": record.epoch,
                "step": record.step,
                "lr": record.learning_rate,
                "train": dict(record.terms),
                "val": dict(record.validation),
                "images_per_second": round(record.images_per_second, 1),
                "seconds": round(record.seconds, 3),
                "selected": record.best,
            }
        )


def finished_run(
    recipe: TrainRecipe, *, output: Path, resume: Resume, progress: Progress
) -> RunResult | None:
    """Return the result of the finished run in a folder; None where there is no finished one.

    The watcher is warned where the run's pictures have changed since.

    Raises ``CheckpointError`` when it is of another recipe, or is to be done anew.
    """
    if find_state(output) != "finished":
        return None
    with RunFolder.open(output, recipe.model_dump(mode="json"), resume=resume) as folder:
        warn_of_changed_data(folder.path, recipe.data, progress=progress)
        return RunResult(folder.path, folder.read_result(), was_finished=True)


def run_training(
    checked: CheckedRun, *, output: Path, resume: Resume, command: Sequence[str], progress: Progress
) -> RunResult:
    """Do a run in a folder: start it, go on with it, or return the result of a finished one.

    Raises ``KdcamError`` subclasses: see `preflight`, `RunFolder.open`, `load_data` and `fit`.
    """
    recipe = checked.recipe
    with RunFolder.open(
        output, recipe.model_dump(mode="json"), resume=resume, named=_named_weights(checked)
    ) as folder:
        if folder.state == "finished":  # by another process, since the caller looked
            return RunResult(folder.path, folder.read_result(), was_finished=True)
        if folder.state == "unfinished":
            _check_device(folder, checked)
        # A run that saved no state begins anew, with the data as it is now.
        begins = folder.state == "new" or not has_saved_state(folder.path)
        with memory_errors("reading the data", _LESS_DATA):
            if begins:
                parts = load_data(recipe.data, progress=progress)
            else:
                parts = resumed_data(folder.path, recipe.data, progress=progress)
        if not begins:
            check_training_data(folder.path, parts)
        checked = with_class_names(checked, parts.label_names)
        _tell(checked, parts, progress)
        if begins:
            # After the data is read: broken data leaves no run behind that would refuse a mended recipe.
            _begin(folder, checked, parts, command, progress)
        write_noisy_labels(folder.path, parts.noise)
        work = f"training on batches of {recipe.batch_size} images of {checked.summary.image_size} pixels"
        with memory_errors(work, _LESS_WORK):
            if is_solved_probe(recipe, checked.student.config):
                return _solve(checked, parts, folder, progress)
            return _train(checked, parts, folder, progress)


def _train(checked: CheckedRun, parts: DataParts, folder: RunFolder, progress: Progress) -> RunResult:
    """Do a run from where it stands, or from its first step."""
    recipe = checked.recipe
    plan, state = assemble(checked, parts)
    if not has_saved_state(folder.path):
        # A run that a teacher was refused for has its recipe already: it must be refused again.
        score_teachers(recipe.teachers, live_classifiers(plan.teachers), plan.validation, progress)
    if cached_views(recipe) is not None:
        plan = cache_teachers(checked, parts, plan, progress)
    _restore(folder, state, progress)
    try:
        fit(plan, state, checkpointer=FolderCheckpointer(folder), progress=progress)
    except Interrupted as stop:
        raise Interrupted(f"{folder.path}: {stop}; the state is kept, the same command goes on") from stop
    result = _conclude(checked, parts, state, folder.path)
    folder.write_result(result)
    return RunResult(folder.path, result, was_finished=False)


def _begin(
    folder: RunFolder, checked: CheckedRun, parts: DataParts, command: Sequence[str], progress: Progress
) -> None:
    """Write down what a run begins with: its recipe, and which picture is in which part."""
    recipe = checked.recipe
    pictures = record_pictures(parts, recipe.data)
    data = None if pictures is None else pictures_bytes(pictures)
    folder.write_recipe(
        command=command,
        seed=recipe.seed,
        device=str(checked.precision.device),
        data=training_data(parts),
        pictures=None if data is None else pictures_digest(data),
    )
    if pictures is None or data is None:
        return
    write_pictures(folder.path, data)
    warn_of_seen(pictures, recipe, progress)
    for name in ("validation", "test"):
        shared = pictures.shared(name)
        if shared:
            progress.warning(
                f"{len(shared)} of the {len(pictures.parts[name])} pictures of the {name} part are copies of training "
                f"pictures, byte for byte ({first_few(shared, most=5)}): scores on this part will be too good; remove "
                "the copies from one of the two"
            )


def _solve(checked: CheckedRun, parts: DataParts, folder: RunFolder, progress: Progress) -> RunResult:
    """Do a run whose classifier is solved: there is no state to keep, and its one epoch is no training."""
    idle = listed(idle_settings(checked.recipe, checked.student.config))
    progress.message(
        f"a linear probe: the classifier is solved on features computed once; these do nothing: {idle}"
    )
    try:
        probe = solve_probe(checked, parts, progress=progress)
    except Interrupted as stop:
        raise Interrupted(f"{folder.path}: {stop}; the same command starts it anew") from stop
    folder.cut_metrics(0)
    checkpointer = FolderCheckpointer(folder)
    checkpointer.record(probe.record)
    progress.epoch(probe.record)
    save_model(folder.path, probe.classifier)
    scores = _scores(checked, parts, probe.classifier)
    result = {
        "selection": f"{probe.selection()}; {_TEST_READ}",
        "epochs": 1,
        "selected": {"epoch": 1, **scores},
        "last": {"epoch": 1, **scores},
        **_facts(checked, parts, probe.classifier),
        "probe": probe.to_json(),
    }
    folder.write_result(result)
    return RunResult(folder.path, result, was_finished=False)


def _named_weights(checked: CheckedRun) -> dict[str, str]:
    """Return the digests of published weights: a name may stand for other ones in another version of its package.

    That of a start is of all that comes from there: its classifier and its neck may be drawn.
    """
    pairs = zip(checked.recipe.teachers, checked.teachers, strict=True)
    found = {
        config.checkpoint: weights_digest(teacher.network)
        for config, teacher in pairs
        if location_kind(config.checkpoint) == "name"
    }
    init, network = checked.recipe.init, checked.student.network
    if init is not None and location_kind(init.checkpoint) == "name":
        found.setdefault(
            init.checkpoint, weights_digest(network, without=("neck", logits_layer_name(network)))
        )
    return found


def _tell(checked: CheckedRun, parts: DataParts, progress: Progress) -> None:
    recipe = checked.recipe
    parameters = sum(parameter.numel() for parameter in checked.student.parameters())
    held = f", {len(parts.validation)} held out for validation" if parts.validation is not None else ""
    progress.message(
        f"{checked.student.config.name} ({parameters:,} parameters) on {len(parts.train):,} training images of "
        f"{len(parts.label_names)} classes{held}; batch {recipe.batch_size}, {checked.precision.device}"
    )
    if parts.skipped:
        progress.warning(
            f"{len(parts.skipped)} files left out: {first_few(parts.skipped, most=5, between='; ')}"
        )
    for teacher in checked.teachers:
        if teacher.image_size != parts.image_size:
            progress.warning(
                f"the teacher was trained on images of {teacher.image_size} pixels and sees "
                f"{parts.image_size} here; set data.image_size to its size unless this is what you want"
            )
    texts = [*checked.warnings, *absent_warnings(parts)]
    if checked.summary.train_images is None and not is_solved_probe(recipe, checked.student.config):
        texts += length_warnings(recipe, train_images=len(parts.train))  # how many steps is known only now
    for text in dict.fromkeys(texts):
        progress.warning(text)
    if parts.noise is not None:
        progress.message(parts.noise.sentence())
    for network in (checked.student, *checked.teachers):
        for note in network.notes:
            progress.message(note)


def _check_device(folder: RunFolder, checked: CheckedRun) -> None:
    """Refuse to go on with a run on another kind of device: its numbers and its precision would change halfway."""
    before, now = folder.began_on(), checked.precision.device.type
    if before is not None and before.partition(":")[0] != now:
        raise CheckpointError(
            f"{folder.path}: the unfinished run began on {before} and would go on on {now}; use --device {before}, or "
            "start over with --resume never"
        )


def _restore(folder: RunFolder, state: TrainState, progress: Progress) -> None:
    """Put an unfinished run back to its last saved state; a run killed before the first one starts anew."""
    saved = load_resume(folder.path) if folder.state == "unfinished" else None
    if saved is None:
        folder.cut_metrics(0)
        return
    restore_state(state, saved, place=folder.path / RESUME_FOLDER / STATE_FILE)
    folder.cut_metrics(state.position.epoch)
    place = state.position
    progress.message(f"{folder.path}: going on after epoch {place.epoch}, step {place.step}")
    for package, (before, now) in folder.changed_versions().items():
        progress.warning(
            f"{package} was {before} when this run began and is {now} now: results may differ in the last bits"
        )


def _conclude(checked: CheckedRun, parts: DataParts, state: TrainState, path: Path) -> dict[str, Any]:
    """Return the result of a run; the test part is read here, once, for the selected and the last weights."""
    recipe, place = checked.recipe, state.position
    device = checked.precision.device
    last = _scores(checked, parts, state.scored)
    selected = last
    if place.best_epoch != place.epoch:
        selected = _scores(checked, parts, load_classifier(path, device=device))
    return {
        "selection": _selection_rule(recipe, place.best_epoch),
        "epochs": recipe.epochs,
        "selected": {"epoch": place.best_epoch, **selected},
        "last": {"epoch": place.epoch, **last},
        **_facts(checked, parts, state.model.student),
    }


def _facts(checked: CheckedRun, parts: DataParts, student: Classifier) -> dict[str, Any]:
    """Return what a result says beside its scores."""
    published = checked.recipe.published
    return {
        "label_names": list(parts.label_names),
        "images": {
            "train": len(parts.train),
            "validation": len(parts.validation or ()),
            "test": len(parts.test or ()),
        },
        "parameters": sum(parameter.numel() for parameter in student.parameters()),
        "published": None if published is None else published.model_dump(),
        "label_noise": None if parts.noise is None else parts.noise.summary(),
    }


def _scores(
    checked: CheckedRun, parts: DataParts, classifier: Classifier
) -> dict[str, dict[str, float] | None]:
    held = {"validation": parts.validation, "test": parts.test}
    return {
        name: None
        if part is None
        else score(classifier, evaluation_batches(checked, part), place=f"{name} part").headline()
        for name, part in held.items()
    }


def _selection_rule(recipe: TrainRecipe, epoch: int) -> str:
    rule = selection_words(recipe.select, MAIN_SCORES[recipe.task])
    return f"epoch {epoch} of {recipe.epochs}: {rule}; {_TEST_READ}"


__all__ = [
    "FolderCheckpointer",
    "RunResult",
    "finished_run",
    "run_training",
]
