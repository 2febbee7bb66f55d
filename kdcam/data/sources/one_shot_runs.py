"""Omniglot's official one-shot classification runs: 20 characters, one drawing of each to learn from, one to name."""

from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

import torch

from kdcam.data.batches.resident import ResidentImages
from kdcam.data.dataset_parts import Part
from kdcam.data.sources.omniglot import ARCHIVE_ERRORS, as_traversable, entries, read_ink, read_member
from kdcam.errors import DataError
from kdcam.files.paths import exists, expanded, is_folder
from kdcam.settings.messages import reason_text

RUNS = "all_runs"
LABELS = "class_labels.txt"


class OneShotRun(NamedTuple):
    """One run: its pictures, labelled by the place of the training picture that they belong to."""

    name: str  # run01 ...
    training: Part  # a picture a class, in the order of the files; targets (K,) are 0 ... K - 1
    test: Part  # targets (Q,) int64: the position in training of the picture of the same character


def omniglot_runs(path: Path, *, image_size: int = 28) -> list[OneShotRun]:
    """Return the runs below ``path``: all_runs.zip, its folder, or a folder that holds one of them; run01 first.

    The published file holds 20 runs of 20 characters (Lake, Salakhutdinov and Tenenbaum, 2015, "Human-level concept
    learning through probabilistic program induction"; brendenlake/omniglot). Images are as those of the data source
    omniglot: ``image_size`` pixels a side, ink 255 on 0.

    Raises:
        DataError: there are no runs, a picture is missing or broken, or class_labels.txt does not name each test
            picture once with a training picture.
    """
    place = _runs_folder(path)
    folders = [entry for entry in entries(place) if entry.name.startswith("run") and entry.is_dir()]
    if not folders:
        raise DataError(f"{path}: holds no run01, run02 ...; name Omniglot's all_runs.zip or its folder")
    return [_read_run(folder, image_size) for folder in folders]


def _runs_folder(path: Path) -> Traversable:
    path = expanded(path)
    held = (path / RUNS, path / f"{RUNS}.zip") if is_folder(path) else ()
    found = next((inner for inner in held if exists(inner)), path)
    place = as_traversable(found, key="omniglot-runs", wanted="Omniglot's all_runs.zip or its folder")
    inner = place / RUNS  # a zip file may hold the folder itself
    return inner if inner.is_dir() else place


def _read_run(folder: Traversable, image_size: int) -> OneShotRun:
    answer_of = _answers(folder)
    training, test = (_pictures(folder, name) for name in ("training", "test"))
    position = {f"{folder.name}/training/{file.name}": index for index, file in enumerate(training)}
    targets = []
    for file in test:
        name = f"{folder.name}/test/{file.name}"
        answer = answer_of.get(name)
        if answer is None or answer not in position:
            said = "does not name it" if answer is None else f"says {answer}, which is not there"
            raise DataError(f"{file}: {folder / LABELS} {said}; fetch {RUNS} again")
        targets.append(position[answer])
    lost = sorted(answer_of.keys() - {f"{folder.name}/test/{file.name}" for file in test})
    if lost:
        raise DataError(f"{folder / LABELS}: names {lost[0]}, which is not there; fetch {RUNS} again")
    return OneShotRun(
        folder.name,
        _part(training, list(range(len(training))), image_size),
        _part(test, targets, image_size),
    )


def _answers(folder: Traversable) -> dict[str, str]:
    """Return the training picture of each test picture, by the names that the labels file gives them."""
    file = folder / LABELS
    if not file.is_file():
        raise DataError(f"{file}: is not there; fetch {RUNS} again")
    answers: dict[str, str] = {}
    try:
        content = read_member(file).decode("utf-8")
    except ARCHIVE_ERRORS as error:
        raise DataError(
            f"{file}: cannot be read as text ({reason_text(error)}); fetch {RUNS} again"
        ) from None
    for line, text in enumerate(content.splitlines(), 1):
        words = text.split()
        if not words:
            continue
        if len(words) != 2 or words[0] in answers:
            raise DataError(
                f"{file}, line {line}: found {text[:100]!r}; allowed: a test picture, each one once, and its "
                "training picture"
            )
        answers[words[0]] = words[1]
    return answers


def _pictures(folder: Traversable, name: str) -> list[Traversable]:
    place = folder / name
    files = [file for file in entries(place) if file.is_file()] if place.is_dir() else []
    if not files:
        raise DataError(f"{place}: holds no picture; fetch {RUNS} again")
    return files


def _part(files: Sequence[Traversable], targets: Sequence[int], image_size: int) -> Part:
    pixels = torch.stack([read_ink(file, image_size) for file in files])
    return Part(ResidentImages(pixels, image_size=image_size), torch.tensor(targets))


__all__ = ["OneShotRun", "omniglot_runs"]
