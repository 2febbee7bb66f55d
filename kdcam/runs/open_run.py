"""Opens a run folder, a weight file or a network by its name: classifier, recipe, and data as it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kdcam.data.batches.batch import EVALUATION_BATCH, Batches
from kdcam.data.dataset_parts import DataParts, Part, absent_warnings
from kdcam.data.datasets import batches
from kdcam.errors import CheckpointError, DataError
from kdcam.files.folder_listing import nfc
from kdcam.files.json_files import layout_errors, read_json
from kdcam.files.paths import exists
from kdcam.files.weight_location import location_kind
from kdcam.models.classifier import Classifier
from kdcam.models.weights.published_networks import load_published_network
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe
from kdcam.runs.checkpoint import load_classifier
from kdcam.runs.part_recovery import MissingPictures
from kdcam.runs.run_data import (
    check_part,
    read_run_data,
    warn_of_missing_pictures,
    warn_of_seen,
    with_data_locations,
)
from kdcam.runs.run_files import RECIPE_FILE, RESULT_FILE
from kdcam.runtime.precision import pick_device
from kdcam.runtime.progress import Progress, Silent
from kdcam.settings.messages import listed

Weights = Literal["selected", "last"]


class LoadedRun(NamedTuple):
    """A run with its weights and its data."""

    path: Path
    classifier: Classifier
    recipe: TrainRecipe  # its [data] table says where the files lie now
    parts: DataParts
    missing: Mapping[str, MissingPictures] = {}  # by part, what is lost of it; `part` refuses it
    rest: bool = False  # what is left of a part is taken
    pictures: str | None = None  # the digest of the record of its pictures, where it kept one
    renamed: Mapping[str, str] = {}  # path of a picture when the run was made -> path now, where they differ

    def part(self, name: str) -> Part:
        """Return the training, validation or test part, just as it was when the run was made.

        Raises ``DataError`` where the run has none of that name, or pictures of it are gone or changed (with ``rest``:
        where nothing of it is left).
        """
        part = self.parts.by_name()[name]
        if part is None:
            raise DataError(f"{self.path}: its data has no {name} part; choose another with --part")
        check_part(self.path, name, self.missing.get(name), rest=self.rest)
        return part

    def with_parts_of(self, other: "LoadedRun") -> "LoadedRun":
        """Return the run with the images that another run of the same pictures holds in memory."""
        return self._replace(parts=other.parts, missing=other.missing, renamed=other.renamed)

    def batches(self, part: Part, *, batch_size: int = EVALUATION_BATCH) -> Batches:
        """Return a part's batches in order, without augmentation, on the classifier's device."""
        device = self.classifier.mean.device
        return batches(
            part,
            batch_size=batch_size,
            training=False,
            config=self.recipe.data,
            seed=self.recipe.seed,
            device=device,
        )


def load(run_or_path: str | Path, *, weights: Weights = "selected", device: str = "cpu") -> Classifier:
    """Return the classifier of a run folder, a timm folder or a .safetensors file with its config.json, in eval mode.

    What is neither a path nor there is taken as the name of a network with published weights, which are downloaded
    where they are not yet (`kdcam.models.weights.published_networks.load_published_network`).

    Raises ``CheckpointError`` when there is none or its tensors do not fit.
    """
    if location_kind(run_or_path) in ("name", "package"):
        if weights == "last":
            raise CheckpointError(
                f"{run_or_path}: is no run folder, and only a run has last weights; use --weights selected"
            )
        return load_published_network(str(run_or_path)).to(pick_device(device))
    return load_classifier(Path(run_or_path), weights=weights, device=pick_device(device))


def load_run(
    path: str | Path,
    *,
    weights: Weights = "selected",
    device: str = "auto",
    data: Mapping[str, Any] | None = None,
    rest: bool = False,
    progress: Progress | None = None,
) -> LoadedRun:
    """Return a run's classifier, in eval mode, its recipe, and its data read anew.

    Each part holds the pictures that it held when the run was made, and no other: they are known again by their bytes,
    whatever they are called now.

    Args:
        path: The run folder.
        weights: Which epoch's weights.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        data: Keys of [data] that say where the files lie now, ``{"root": "moved"}``; None: where they lay.
        rest: Where pictures of a part are gone or changed, what is left of it is taken; else it is refused when it is
            asked for.
        progress: Who watches; warned of all that is not as it was.

    Raises ``CheckpointError`` when the folder holds no run, ``DataError`` when the data cannot be read any more,
    ``RecipeError`` for a key of ``data`` that says more than where files lie.
    """
    folder = Path(path)
    stored = recipe_of(folder)
    config = with_data_locations(stored.data, data, folder)
    classifier = load(folder, weights=weights, device=device)
    watcher = progress or Silent()
    read = read_run_data(folder, config, progress=watcher)
    _check_label_names(folder, classifier, read.parts)
    if read.record is None:
        _warn_of_changed_parts(folder, read.parts, watcher)
    else:
        warn_of_seen(read.record, stored, watcher)
    for text in absent_warnings(read.parts):
        watcher.warning(text)
    if rest:
        for name, missing in read.missing.items():
            warn_of_missing_pictures(folder, missing, f"of its {name} part", watcher)
    recipe = stored.model_copy(update={"data": config})
    return LoadedRun(folder, classifier, recipe, read.parts, read.missing, rest, read.digest, read.renamed)


def _check_label_names(folder: Path, classifier: Classifier, parts: DataParts) -> None:
    learned, found = classifier.label_names, parts.label_names
    if learned and tuple(map(nfc, learned)) != tuple(map(nfc, found)):
        raise DataError(
            f"{folder}: was trained on {len(learned)} classes ({listed(learned[:10])}), its data has {len(found)} now "
            f"({listed(found[:10])}); give the data its classes back, or train on these in another --output"
        )


def _warn_of_changed_parts(folder: Path, parts: DataParts, progress: Progress) -> None:
    """Warn where the parts have other sizes than those of the run: a share held out anew is of other images."""
    if not exists(folder / RESULT_FILE):
        return
    with layout_errors(folder / RESULT_FILE):
        before = read_json(folder / RESULT_FILE)["images"]
        changed = [
            f"{name} {before[name]} then, {len(part or ())} now"
            for name, part in parts.by_name().items()
            if before[name] != len(part or ())
        ]
    if changed:
        progress.warning(
            f"{folder}: its data has changed since it was trained (images: {'; '.join(changed)}), so images that it "
            "was trained on may be among those scored now"
        )


def recipe_of(path: Path) -> TrainRecipe:
    """Return the recipe that a run was made with.

    Raises ``CheckpointError`` when the folder holds no run.
    """
    if not exists(path):
        raise CheckpointError(f"{path}: is not there; name a run folder that `kdcam train` made")
    if not exists(path / RECIPE_FILE):
        raise CheckpointError(
            f"{path}: holds no {RECIPE_FILE}, so it is not a run folder; name one that `kdcam train` made"
        )
    with layout_errors(path / RECIPE_FILE):
        table = dict(read_json(path / RECIPE_FILE)["recipe"])
    return read_recipe(table, source=str(path / RECIPE_FILE))


__all__ = ["LoadedRun", "Weights", "load", "load_run", "recipe_of"]
