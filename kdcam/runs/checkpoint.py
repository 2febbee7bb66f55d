"""Saving and loading: the weights that others load, and all that a run needs to go on bit for bit.

Only safetensors and JSON, never pickle. Every file is replaced whole or not at all (`kdcam.files.atomic_writes`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import make_folder, write_atomically
from kdcam.files.json_files import read_json, write_json
from kdcam.files.paths import exists, is_file, is_folder
from kdcam.files.weight_location import CONFIG_FILE, MODEL_FILE
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.weights.config_json import check_arguments, config_content, read_config
from kdcam.models.weights.safetensors_files import (
    TensorsFile,
    load_exactly,
    plain_names,
    read_tensors,
    read_tensors_file,
    refuse_pickles,
    tensor_bytes,
)
from kdcam.runs.run_files import RESULT_FILE, RESUME_FOLDER

STATE_FILE = "state.safetensors"
START_OVER = "start over with --resume never"
STUDENT_PREFIX = "student.network."  # in a resume state: the student's bare network
AVERAGE_PREFIX = "ema.network."  # the moving average of it, where there is one
_FORMATS = (1, 2)  # of the resume state, by layout; 1: of before files were sealed; the last is written


class ResumeState(NamedTuple):
    """All that a run needs to go on bit for bit; one file, so that its parts cannot be of different steps."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]  # JSON: text keys, lists instead of tuples; floats come back bit for bit


def save_resume(folder: Path, state: ResumeState) -> None:
    """Write resume/state.safetensors into a run folder; the previous state stays until this one is whole.

    Raises:
        CheckpointError: It cannot be written; the previous state is still there.
    """
    header = {
        "format": _FORMATS[-1],
        "record": state.record,
        "channels_last": [name for name, tensor in state.tensors.items() if _is_channels_last(tensor)],
    }
    data = tensor_bytes(state.tensors, {"kdcam": json.dumps(header)})
    make_folder(folder / RESUME_FOLDER)
    write_atomically(folder / RESUME_FOLDER / STATE_FILE, data)


def load_resume(folder: Path) -> ResumeState | None:
    """Return the saved state, on the CPU and in the memory format that was saved; None where there is none.

    Raises:
        CheckpointError: The file is damaged or of another layout.
    """
    path = folder / RESUME_FOLDER / STATE_FILE
    if not exists(path):
        return None
    file = read_tensors_file(path, way_out=START_OVER)
    header, tensors = _header(path, file), file.tensors
    try:
        for name in header["channels_last"]:
            tensors[name] = tensors[name].contiguous(memory_format=torch.channels_last)
        return ResumeState(tensors, dict(header["record"]))
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: a damaged resume state ({error!r}); {START_OVER}") from error


def save_model(folder: Path, classifier: Classifier, *, state: Mapping[str, Tensor] | None = None) -> None:
    """Write model.safetensors and config.json; a timm network's folder then loads in timm without kdcam.

    Args:
        folder: Made if it is not there.
        classifier: The network that config.json describes.
        state: Tensors of the bare network to write instead of those that the classifier has now.

    Raises:
        CheckpointError: A file cannot be written; the previous one is still there.
    """
    tensors = plain_names(classifier.network.state_dict() if state is None else state)
    make_folder(folder)
    # config.json first: it is the same for all weights of a run, and weights without it are of no use.
    write_json(folder / CONFIG_FILE, config_content(classifier))
    write_atomically(folder / MODEL_FILE, tensor_bytes(tensors, {"format": "pt"}))


def load_classifier(
    path: Path, *, weights: Literal["selected", "last"] = "selected", device: torch.device | str = "cpu"
) -> Classifier:
    """Return the saved classifier in evaluation mode; torch's generator is left as it was.

    Args:
        path: A run folder, a timm folder (config.json and model.safetensors), or a .safetensors file with its
            config.json beside it.
        weights: "selected": those of model.safetensors. "last": those of the run's last saved state, the
            moving average's where there is one. A solved linear probe has one kind of weights, which both mean.
        device: Where the classifier goes.

    Raises:
        CheckpointError: Something is missing or damaged, or the weights do not fit the network.
    """
    refuse_pickles(path)
    stored = read_config(path)
    reads_last = weights == "last" and not _is_solved(path)
    place, tensors = _last_weights(path) if reads_last else _selected_weights(path)
    with torch.random.fork_rng(devices=[]):
        classifier = build_classifier(
            stored.model,
            num_classes=stored.num_classes,
            in_channels=stored.in_channels,
            image_size=stored.image_size,
            label_names=stored.label_names,
            task=stored.task,
        )
    what = f"{stored.model.name} with {stored.num_classes} classes and {stored.in_channels}-channel images"
    load_exactly(classifier.network, tensors, source=str(place), what=what)
    if stored.timm_args:
        check_arguments(classifier, stored.timm_args, file=place.parent / CONFIG_FILE)
    return classifier.to(device).eval()


def _selected_weights(path: Path) -> tuple[Path, dict[str, Tensor]]:
    file = path / MODEL_FILE if is_folder(path) else path
    if not exists(file):
        raise CheckpointError(
            f"{path}: has no {MODEL_FILE}; a run has one after its first epoch, and another .safetensors "
            "file can be given by its own path"
        )
    return file, read_tensors(file)


def _is_solved(path: Path) -> bool:
    """Return whether a run's classifier was solved, so that its selected weights are its last ones, too."""
    return is_file(path / RESULT_FILE) and "probe" in read_json(path / RESULT_FILE)


def _last_weights(path: Path) -> tuple[Path, dict[str, Tensor]]:
    file = path / RESUME_FOLDER / STATE_FILE
    if not is_file(file):
        raise CheckpointError(
            f"{path}: has no {RESUME_FOLDER}/{STATE_FILE}, where a run's last weights are; "
            "only run folders have one, use --weights selected"
        )
    tensors, *_ = read_tensors_file(file, way_out=f"{START_OVER}, or take --weights selected")
    chosen = AVERAGE_PREFIX if any(name.startswith(AVERAGE_PREFIX) for name in tensors) else STUDENT_PREFIX
    return file, {
        name.removeprefix(chosen): tensor for name, tensor in tensors.items() if name.startswith(chosen)
    }


def _header(path: Path, file: TensorsFile) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(file.metadata["kdcam"])
        found = header["format"]
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a resume state; {START_OVER}") from error
    if found not in _FORMATS:
        raise CheckpointError(
            f"{path}: a resume state of format {found}, this kdcam reads up to {_FORMATS[-1]}; go on with the version "
            f"that wrote it, or {START_OVER}"
        )
    if found > 1 and not file.is_sealed:
        raise CheckpointError(f"{path}: a damaged resume state (its checksum is gone); {START_OVER}")
    return header


def _is_channels_last(tensor: Tensor) -> bool:
    if tensor.dim() != 4 or tensor.is_contiguous():
        return False
    return tensor.is_contiguous(memory_format=torch.channels_last)


__all__ = [
    "ResumeState",
    "load_classifier",
    "load_resume",
    "save_model",
    "save_resume",
]
