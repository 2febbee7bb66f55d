"""Whether a run may go on, or stay, in a folder: of the same recipe, and the same weights of teachers and start."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import check_writable, remove_leftovers
from kdcam.files.digests import file_digest
from kdcam.files.json_files import Difference, first_difference, read_json, value_text
from kdcam.files.paths import exists, expanded, is_folder
from kdcam.files.weight_location import CONFIG_FILE, MODEL_FILE, location_kind
from kdcam.runs.run_files import (
    AGREEMENT_FILE,
    EPISODES_FILE,
    FEW_SHOT_FILE,
    FIGURES_FOLDER,
    LOCALIZATION_FILE,
    METRICS_FILE,
    NOISE_FILE,
    PICTURES_FILE,
    PICTURES_KEY,
    RECIPE_FILE,
    REPORT_FILE,
    RESULT_FILE,
    RESUME_FOLDER,
    ROBUSTNESS_FILE,
    VERIFICATION_FILE,
    Resume,
    State,
    find_state,
    has_saved_state,
)
from kdcam.settings.messages import reason_text

WeightDigests = Mapping[str, str | None]  # by checkpoint

WEIGHTS_KEY = "teacher_weights"  # of recipe.json, with the digests of the weights
# recipe.json last: while it is there the folder still counts as an unfinished run
_WRITTEN = (
    RESULT_FILE,
    ROBUSTNESS_FILE,
    AGREEMENT_FILE,
    FEW_SHOT_FILE,
    EPISODES_FILE,
    VERIFICATION_FILE,
    LOCALIZATION_FILE,
    REPORT_FILE,
    METRICS_FILE,
    MODEL_FILE,
    CONFIG_FILE,
    NOISE_FILE,
    PICTURES_FILE,
    RECIPE_FILE,
)
_PATTERNS = (
    "robustness-progress-*",  # of evaluations under way
    f"{FIGURES_FOLDER}/*.png",  # of this run alone: beside another one they would show what it is not
)


def check_finished(path: Path, recipe: dict[str, Any], resume: Resume) -> None:
    """Raise ``CheckpointError`` unless the finished run in ``path`` is of this recipe and may be kept."""
    _check_same_recipe(path, recipe, "a finished run", "")
    if resume == "never":
        raise CheckpointError(
            f"{path}: holds a finished run, and a finished run is not overwritten; "
            "choose another folder with --output, or remove this one yourself"
        )


# When an unfinished run may be replaced: docs/decisions/006.
def prepare_folder(path: Path, recipe: dict[str, Any], resume: Resume) -> State:
    """Return the state of a folder just locked, made ready for the run.

    What killed processes left aside is removed, and with resume "never" the unfinished run. A run of another
    recipe that ended before it kept a state (a bad image, say) has nothing to lose: it is removed, too.

    Raises:
        CheckpointError: The recipe may not be run there, or the folder cannot be written to.
    """
    check_writable(path)
    for folder in (path, path / RESUME_FOLDER):
        remove_leftovers(folder)
    state = find_state(path)
    if state == "new":
        _check_nothing_foreign(path)
    elif state == "finished":  # by another process, since the caller looked
        check_finished(path, recipe, resume)
    elif resume == "never" or (
        not has_saved_state(path) and _recipe_difference_text(path, recipe) is not None
    ):
        _remove_run(path)
        return "new"
    else:
        _check_same_recipe(path, recipe, "an unfinished run", ", or start over with --resume never")
    return state


def _check_same_recipe(path: Path, recipe: dict[str, Any], what: str, also: str) -> None:
    difference = _recipe_difference_text(path, recipe)
    if difference is not None:
        raise CheckpointError(
            f"{path}: holds {what} of another recipe ({difference}); "
            f"choose another folder with --output{also}"
        )


def _recipe_difference_text(path: Path, recipe: dict[str, Any]) -> str | None:
    difference = recipe_difference(read_json(path / RECIPE_FILE), recipe)
    if difference is None:
        return None
    return f"{difference.place or 'recipe'}: {value_text(difference.there)} there, {value_text(difference.here)} here"


def recipe_difference(record: Mapping[str, Any], recipe: Mapping[str, Any]) -> Difference | None:
    """Return where a recipe differs from that of a run's recipe.json.

    Pictures that are known by their bytes may lie in another folder.
    """
    there = record.get("recipe")
    data = there.get("data") if isinstance(there, Mapping) else None
    if PICTURES_KEY in record and isinstance(data, Mapping) and "root" in recipe.get("data", {}):
        recipe = {**recipe, "data": {**recipe["data"], "root": data.get("root")}}
    return first_difference(there, recipe)


def _check_nothing_foreign(path: Path) -> None:
    foreign = [name for name in (*_WRITTEN, RESUME_FOLDER) if exists(path / name)]
    foreign += [str(file.relative_to(path)) for file in _matching(path)]
    if foreign:
        raise CheckpointError(
            f"{path}: holds {foreign[0]} but no {RECIPE_FILE}, so it is not a run folder and nothing in it "
            "is overwritten; choose another folder with --output"
        )


def _matching(path: Path) -> list[Path]:
    return [file for pattern in _PATTERNS for file in sorted(path.glob(pattern))]


def _remove_run(path: Path) -> None:
    try:
        if exists(path / RESUME_FOLDER):
            shutil.rmtree(path / RESUME_FOLDER)
        for file in (*_matching(path), *(path / name for name in _WRITTEN)):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{path}: the unfinished run cannot be removed ({reason_text(error)}); "
            "choose another folder with --output"
        ) from error


def check_same_weights(run: Path, record: Mapping[str, Any], now: WeightDigests, *, what: str) -> None:
    """Raise ``CheckpointError`` where a run's recipe.json tells of other weights of a teacher than there are now.

    ``what``: "a finished run", "an unfinished run".
    """
    changed = changed_weights(record, now)
    if changed is not None:
        raise CheckpointError(
            f"{run}: holds {what} under other weights of the teacher or start {changed} (or another {CONFIG_FILE} "
            "beside them) than there are now; give it its former weights back, remove this folder to run it anew, or "
            "choose another one with --output"
        )


def changed_weights(record: Mapping[str, Any], now: WeightDigests) -> str | None:
    """Return the first checkpoint whose weights are others now than those that recipe.json tells; None: none is.

    What is unknown on either side (a network that is not loaded, a file that is gone, a run of before a digest was
    kept) counts as unchanged.
    """
    before = record.get(WEIGHTS_KEY)
    kept = before if isinstance(before, Mapping) else {}
    for checkpoint, digest in now.items():
        then = kept.get(checkpoint)
        if digest is not None and isinstance(then, str) and _differ(then, digest):
            return checkpoint
    return None


def _differ(then: str, now: str) -> bool:
    # A run of before config.json counted has the digest of the weights alone.
    return any(one != other for one, other in zip(then.split(), now.split(), strict=False))


def weight_digests(recipe: Mapping[str, Any], named: WeightDigests | None = None) -> dict[str, str | None]:
    """Return the digest of each teacher and of the start of a resolved recipe by its checkpoint.

    ``named``: those of networks' names, where they are loaded.
    """
    teachers = recipe.get("teacher") or []
    tables = [teachers] if isinstance(teachers, Mapping) else teachers
    checkpoints = [str(one["checkpoint"]) for one in (*tables, recipe.get("init")) if one is not None]
    return {one: (named or {}).get(one) or checkpoint_digest(one) for one in checkpoints}


def checkpoint_digest(checkpoint: str) -> str | None:
    """Return the SHA-256 of the weights of a teacher or start and, behind it, of the config.json beside them.

    The config.json, where there is one, tells statistics and head. None for a network's name, and for files and
    packages that are gone.
    """
    if location_kind(checkpoint) == "package":
        return _package_digest(checkpoint)
    path = expanded(checkpoint)
    folder, file = (path, path / MODEL_FILE) if is_folder(path) else (path.parent, path)
    weights = file_digest(file)
    if weights is None:
        return None
    config = file_digest(folder / CONFIG_FILE)
    return weights if config is None else f"{weights} {config}"


def _package_digest(place: str) -> str | None:
    # here: it waits for torch, and nothing else in this file does
    from kdcam.models.weights.packaged_weights import package_file

    try:
        return file_digest(package_file(place))
    except CheckpointError:
        return None


__all__ = [
    "WEIGHTS_KEY",
    "WeightDigests",
    "changed_weights",
    "check_finished",
    "check_same_weights",
    "checkpoint_digest",
    "prepare_folder",
    "recipe_difference",
    "weight_digests",
]
