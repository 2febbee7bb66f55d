"""Which run a folder holds, and whether a recipe may be run there.

A run is *new* while there is no recipe.json, *unfinished* until there is a result.json, *finished* after.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import check_writable, remove_leftovers
from kdcam.files.differences import Difference, first_difference, value_text
from kdcam.files.json_files_part import read_json
from kdcam.files.paths import exists, is_folder
from kdcam.runs.metrics_log import METRICS_FILE

RECIPE_FILE = "recipe.json"
RESULT_FILE = "result.json"
MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
PICTURES_FILE = "pictures.safetensors"
PICTURES_KEY = "pictures"  # of recipe.json, with the SHA-256 of that file
FEW_SHOT_FILE = "few-shot.json"
EPISODES_FILE = "few-shot-episodes.safetensors"
VERIFICATION_FILE = "verification.json"
LOCALIZATION_FILE = "localization.json"
REPORT_FILE = "report.html"
FIGURES_FOLDER = "figures"
RESUME_FOLDER = "resume"
# recipe.json last: while it is there the folder still counts as an unfinished run
_WRITTEN = (
    RESULT_FILE,
    "robustness.json",
    "agreement.json",
    FEW_SHOT_FILE,
    EPISODES_FILE,
    VERIFICATION_FILE,
    LOCALIZATION_FILE,
    REPORT_FILE,
    METRICS_FILE,
    MODEL_FILE,
    CONFIG_FILE,
    "noise.safetensors",
    PICTURES_FILE,
    RECIPE_FILE,
)
_PATTERNS = (
    "robustness-progress-*",  # of evaluations under way
    f"{FIGURES_FOLDER}/*.png",  # of this run alone: beside another one they would show what it is not
)

State = Literal["new", "unfinished", "finished"]
Resume = Literal["auto", "never"]


def find_state(path: Path) -> State:
    """Return how far the run in ``path`` got; "new" also where there is no such folder."""
    if not exists(path / RECIPE_FILE):
        return "new"
    return "finished" if exists(path / RESULT_FILE) else "unfinished"


def has_saved_state(path: Path) -> bool:
    """Return whether an unfinished run kept a state that it could go on from."""
    folder = path / RESUME_FOLDER
    return is_folder(folder) and any(folder.iterdir())


def check_finished(path: Path, recipe: dict[str, Any], resume: Resume) -> None:
    """Raise ``CheckpointError`` unless the finished run in ``path`` is of this recipe and may be kept."""
    _check_same_recipe(path, recipe, "a finished run", "")
    if resume == "never":
        raise CheckpointError(
            f"{path}: holds a finished run, and a finished run is not overwritten; "
            "choose another folder with --output, or remove this one yourself"
        )


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
            f"{path}: the unfinished run cannot be removed ({error.strerror or error}); "
            "choose another folder with --output"
        ) from error


__all__ = [
    "CONFIG_FILE",
    "EPISODES_FILE",
    "FEW_SHOT_FILE",
    "FIGURES_FOLDER",
    "LOCALIZATION_FILE",
    "MODEL_FILE",
    "PICTURES_FILE",
    "PICTURES_KEY",
    "RECIPE_FILE",
    "REPORT_FILE",
    "RESULT_FILE",
    "RESUME_FOLDER",
    "VERIFICATION_FILE",
    "Resume",
    "State",
    "check_finished",
    "find_state",
    "has_saved_state",
    "prepare_folder",
    "recipe_difference",
]
