"""What the command line and a notebook call to train and to score: train, distill, finetune, evaluate, predict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from kdcam.data.batches.batch import EVALUATION_BATCH
from kdcam.data.batches.decoding import read_image
from kdcam.data.sources.picture_files import readable_pictures
from kdcam.errors import CheckpointError, RecipeError
from kdcam.models.classifier import Classifier, Task
from kdcam.recipe.train_recipe import TrainRecipe, check_command, load_recipe
from kdcam.runs.checkpoint import load_classifier
from kdcam.runs.open_run import Weights, load_run, recipe_of
from kdcam.runs.run_files import Resume, has_saved_state
from kdcam.runtime.distributed import check_single_process
from kdcam.runtime.memory import memory_errors
from kdcam.runtime.numerics import FiniteCheck
from kdcam.runtime.precision import pick_device
from kdcam.runtime.progress import Progress, Silent, until_stopped
from kdcam.scores.classification import THRESHOLD, ClassificationReport, MultiLabelReport, score
from kdcam.training.preflight import preflight
from kdcam.training.training_run import RunResult, finished_run, run_training


def train(
    recipe: TrainRecipe | str | Path,
    *,
    output: str | Path | None = None,
    device: str = "auto",
    resume: Resume = "auto",
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> RunResult:
    """Train a classifier as a recipe says and return where the run lies and what came out of it.

    Args:
        recipe: A recipe, or a shipped recipe's name or a TOML file.
        output: The run folder; by default ``runs/<recipe>-<seed>`` below the current folder, where <recipe> is the
            name of the file that the recipe was read from, else ``run``.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        resume: "auto": an unfinished run in the folder goes on, a finished one is returned as it is; "never":
            an unfinished one starts over.
        command: The command line, for the record.
        progress: Who watches.

    Raises:
        KdcamError: Anything outside the code is wrong; see its subclasses.
    """
    recipe, folder = _recipe_and_folder(recipe, output)
    check_command(recipe, "train")
    return _run(recipe, folder, device, resume, command, progress)


def distill(
    recipe: TrainRecipe | str | Path,
    *,
    output: str | Path | None = None,
    device: str = "auto",
    resume: Resume = "auto",
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> RunResult:
    """Train a student under a teacher as a recipe says; arguments, result and errors as those of `train`."""
    recipe, folder = _recipe_and_folder(recipe, output)
    check_command(recipe, "distill")
    return _run(recipe, folder, device, resume, command, progress)


def finetune(
    recipe: TrainRecipe | str | Path,
    *,
    output: str | Path | None = None,
    device: str = "auto",
    resume: Resume = "auto",
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> RunResult:
    """Train on from the trained network of a recipe's [init] table; arguments, result and errors as of `train`."""
    recipe, folder = _recipe_and_folder(recipe, output)
    check_command(recipe, "finetune")
    return _run(recipe, folder, device, resume, command, progress)


def _recipe_and_folder(
    recipe: TrainRecipe | str | Path, output: str | Path | None
) -> tuple[TrainRecipe, Path]:
    if not isinstance(recipe, TrainRecipe):
        recipe = load_recipe(recipe)
    return recipe, Path(output) if output is not None else default_run_folder(recipe)


def default_run_folder(recipe: TrainRecipe) -> Path:
    """Return the run folder that a recipe's short name and its seed call for."""
    return Path("runs") / f"{recipe.stem or 'run'}-{recipe.seed}"


def _run(
    recipe: TrainRecipe,
    folder: Path,
    device: str,
    resume: Resume,
    command: Sequence[str],
    progress: Progress | None,
) -> RunResult:
    check_single_process()
    # Before all else, since its result needs neither the data nor the teacher, which may be gone by now.
    finished = finished_run(recipe, output=folder, resume=resume, progress=progress or Silent())
    if finished is not None:
        return finished
    try:
        with memory_errors("building the networks", "take smaller ones (model.name, teacher.checkpoint)"):
            checked = preflight(recipe, device=device)
    except CheckpointError as error:
        if has_saved_state(folder):
            raise CheckpointError(
                f"{error} (the unfinished run in {folder} goes on only with what it began with: put that back, or "
                "choose another folder with --output)"
            ) from error
        raise
    return run_training(checked, output=folder, resume=resume, command=command, progress=progress or Silent())


def evaluate(
    run_path: str | Path,
    *,
    part: Literal["train", "validation", "test"] = "test",
    weights: Weights = "selected",
    device: str = "auto",
    batch_size: int = EVALUATION_BATCH,
    threshold: float | None = None,
    data: Mapping[str, Any] | None = None,
    rest: bool = False,
    progress: Progress | None = None,
) -> ClassificationReport | MultiLabelReport:
    """Return the scores of a run on one part of its data, the pictures that it held when the run was made.

    ``data`` and ``rest``: see `load_run`; where the data lies now, and whether to score what is left of it.
    ``threshold`` is for runs of several labels an image: the probability above which a label is said to be
    there; None: `kdcam.scores.classification.THRESHOLD`.

    Raises ``RecipeError`` for a threshold that is no probability or has no use, ``CheckpointError`` or
    ``DataError``: see `load_run`.
    """
    if threshold is not None:
        _check_threshold(threshold, Path(run_path))
    loaded = load_run(run_path, weights=weights, device=device, data=data, rest=rest, progress=progress)
    loader = loaded.batches(loaded.part(part), batch_size=batch_size)
    return score(
        loaded.classifier,
        loader,
        threshold=THRESHOLD if threshold is None else threshold,
        place=f"{run_path}, {part} part",
        progress=progress or Silent(),
    )


def _check_threshold(threshold: float, run_path: Path) -> None:
    if not 0 <= threshold <= 1:
        raise RecipeError(f"threshold: found {threshold:g}; must be a probability, from 0 to 1")
    if recipe_of(run_path).task == "single-label":
        raise RecipeError(
            f"threshold: found {threshold:g}, but {run_path} has one label an image, the most likely one whatever "
            "its probability; leave the threshold (--threshold) out"
        )


class Prediction(NamedTuple):
    """What a classifier says about one image."""

    image: Path
    labels: tuple[str, ...]  # most likely first
    scores: tuple[float, ...]  # of these labels: softmax probabilities of a single label, which sum to 1 over
    #                            all classes; of several labels each class's own sigmoid probability
    task: Task


def predict(
    run_or_path: str | Path,
    images: Sequence[str | Path],
    *,
    top: int = 5,
    weights: Weights = "selected",
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Prediction]:
    """Return the most likely classes of image files, read and resized as in training.

    A folder stands for the pictures below it: other files in it are left out, and those that cannot be read, with a
    warning. All pictures are checked before any is classified.

    Raises ``CheckpointError`` for the run, ``DataError`` for an image named by itself that cannot be read or a folder
    without a picture, ``ModelError`` where logits are not finite, naming the images, ``Interrupted`` where ``progress``
    asks to stop.
    """
    if top < 1:
        raise ValueError(f"top is {top}; allowed: 1 or more")
    classifier = load_classifier(Path(run_or_path), weights=weights, device=pick_device(device))
    watcher, finite = progress or Silent(), FiniteCheck()
    paths = readable_pictures(images, progress=watcher)
    found = [_predict_one(classifier, path, top, finite) for path in until_stopped(paths, watcher)]
    finite.require(str(run_or_path), lambda position: str(paths[position]))
    return found


def _predict_one(classifier: Classifier, path: Path, top: int, finite: FiniteCheck) -> Prediction:
    names = classifier.class_names
    picture = read_image(path, image_size=classifier.image_size, channels=classifier.in_channels)
    with torch.no_grad():
        logits = classifier(picture.unsqueeze(0).to(classifier.mean.device).float() / 255)
        finite.take(logits)
        scores, classes = classifier.probabilities(logits[0]).topk(min(top, len(names)))
    labels = tuple(names[index] for index in classes.tolist())
    return Prediction(path, labels, tuple(scores.tolist()), classifier.task)


__all__ = [
    "Prediction",
    "default_run_folder",
    "distill",
    "evaluate",
    "finetune",
    "predict",
    "train",
]
