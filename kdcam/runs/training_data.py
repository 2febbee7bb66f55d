"""Which training images a run began with, as its recipe.json tells, so that no other ones are mixed in later."""

from pathlib import Path
from typing import Any

from kdcam.data.dataset_parts import DataParts
from kdcam.errors import CheckpointError
from kdcam.files.digests import targets_digest
from kdcam.files.json_files_part import layout_errors, read_json
from kdcam.runs.run_files import RECIPE_FILE
from kdcam.runs.run_folder import TRAINING_KEY
from kdcam.settings.messages import first_few


def training_data(parts: DataParts) -> dict[str, Any]:
    """Return classes, number of training images and the SHA-256 of their true labels, in a form that JSON takes."""
    labels = parts.train.targets if parts.noise is None else parts.noise.clean
    return {
        "label_names": list(parts.label_names),
        "images": len(parts.train),
        "labels": targets_digest(labels),
    }


def check_training_data(folder: Path, parts: DataParts) -> None:
    """Raise ``CheckpointError`` where an unfinished run would go on with other classes or images than it began with.

    A class folder added, a file of a class split changed: its two halves would be of different classes under the same
    numbers. A run of before this was kept goes on.
    """
    before = read_json(folder / RECIPE_FILE).get(TRAINING_KEY)
    now = training_data(parts)
    if before is None or before == now:
        return
    with layout_errors(folder / RECIPE_FILE):
        change = _change(before, now)
    raise CheckpointError(
        f"{folder}: the data has changed since the run began: {change}; restore the data, or start over with --resume "
        "never"
    )


def _change(before: dict[str, Any], now: dict[str, Any]) -> str:
    if before["label_names"] != now["label_names"]:
        then, there = before["label_names"], now["label_names"]
        gone = [name for name in then if name not in there]
        new = [name for name in there if name not in then]
        if gone or new:
            return (
                f"{len(then)} classes then and {len(there)} now ({first_few(map(repr, gone))} then alone, "
                f"{first_few(map(repr, new))} now alone)"
            )
        return f"the same {len(then)} classes in another order"
    if before["images"] != now["images"]:
        return f"{before['images']} training images then, {now['images']} now"
    return f"the labels of its {now['images']} training images are others now than then"


__all__ = ["check_training_data", "training_data"]
