"""What a classifier says about picture files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from kdcam.data.batches.decoding import read_image
from kdcam.data.sources.picture_files import readable_pictures
from kdcam.models.classifier import Classifier, Task
from kdcam.runs.checkpoint import load_classifier
from kdcam.runtime.numerics import FiniteCheck
from kdcam.runtime.precision import pick_device
from kdcam.runtime.progress import Progress, Silent, until_stopped


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
    weights: Literal["selected", "last"] = "selected",
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


__all__ = ["Prediction", "predict"]
