"""Omniglot: its characters, read from zip files or folders, and its one-shot runs (all_runs)."""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy
import torch
from torch import Tensor

from kdcam.data.batches.decoding import as_tensor, fit_square, picture_file
from kdcam.data.batches.resident import ResidentImages
from kdcam.data.dataset_parts import Part, SourceParts
from kdcam.data.source_configs import OmniglotConfig
from kdcam.errors import DataError
from kdcam.files.folder_listing import files_below, is_hidden_file, is_hidden_folder
from kdcam.files.paths import exists, expanded, is_file, is_folder, shown
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import listed, reason_text

try:
    from lzma import LZMAError
except ImportError:  # a Python that was built without it opens no such archive
    LZMAError = zipfile.BadZipFile  # type: ignore[assignment, misc]

_CHARACTER = re.compile(r"character\d+")
_PICTURES = (".png", ".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".tif", ".tiff")
_RUNS = "all_runs"
_LABELS = "class_labels.txt"
_MEMBER_LIMIT = 10_000_000  # bytes unpacked; published drawings and lists of names have some hundred
_ARCHIVE_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
)
"""What Python raises on damaged zip files; ``RuntimeError`` on encrypted ones and on unknown ways of packing."""


class Character(NamedTuple):
    """A class: one character of an alphabet."""

    name: str  # Alphabet/characterNN
    drawings: tuple[Traversable, ...]  # picture files, or members of a zip file, by name


def list_characters(root: Path) -> tuple[Character, ...]:
    """Return the characters below ``root``, alphabets, characters and drawings in the order of their names.

    ``root`` holds alphabets' folders, or folders or zip files of them (images_background_small1 ...), or is such a
    zip file. An alphabet is a folder of folders character01, character02 ... One that stands in several sets, as
    Greek and Latin do in both small ones, is taken once.

    Raises:
        DataError: there is no such folder or no alphabet in it, a zip file is broken, or two alphabets of one name
            have different drawings.
    """
    alphabets: dict[str, tuple[str, tuple[Character, ...]]] = {}
    for folder, drawings in _alphabet_folders(_as_traversable(root)).items():
        name = PurePath(folder).name
        characters = _characters(name, drawings)
        first, known = alphabets.setdefault(name, (folder, characters))
        if first != folder and _drawn(known) != _drawn(characters):
            raise DataError(
                f"{shown(folder)}: holds other drawings than {shown(first)}, an alphabet of the same name; keep one "
                "of them, or rename one"
            )
    if not alphabets:
        raise DataError(
            f"data.root: {root} holds no alphabet of Omniglot (folders character01, character02 ...), nor zip files or "
            "folders with such; name the folder of images_background_small1.zip and its like"
        )
    return tuple(character for _, (_, found) in sorted(alphabets.items()) for character in found)


def _as_traversable(
    root: Path, *, key: str = "data.root", wanted: str = "a folder or a .zip file of Omniglot"
) -> Traversable:
    """Return a folder, or the inside of a zip file; ``DataError``, that says ``key``, where it is neither."""
    root = expanded(root)
    if is_folder(root):
        return root
    if root.suffix.lower() != ".zip" or not is_file(root):
        found = "a file of another kind" if exists(root) else "not there"
        raise DataError(f"{key}: {root} is {found}; name {wanted}")
    return _inside(root)


def _inside(file: Path) -> zipfile.Path:
    try:
        return zipfile.Path(file)
    except _ARCHIVE_ERRORS as error:
        raise DataError(
            f"{shown(str(file))}: cannot be read as a zip file ({reason_text(error)}); fetch it again"
        ) from None


def _entries(folder: Traversable) -> list[Traversable]:
    """Return what lies right below a folder and is not hidden, by name."""
    found = (entry for entry in folder.iterdir() if not _hidden(entry.name))
    return sorted(found, key=lambda entry: entry.name)


def _alphabet_folders(root: Traversable) -> dict[str, list[tuple[str, Traversable]]]:
    """Return for each alphabet's folder, by its path, the drawings in it with the folders that they lie in.

    Only picture files count: Omniglot's strokes lie in folders of the same names.
    """
    found: dict[str, list[tuple[str, Traversable]]] = {}
    for folder, file in _files(root):
        if _CHARACTER.fullmatch(folder.name) and PurePath(file.name).suffix.lower() in _PICTURES:
            found.setdefault(str(folder.parent), []).append((folder.name, file))
    return dict(sorted(found.items()))


def _files(root: Traversable) -> Iterator[tuple[PurePath, Traversable]]:
    """Yield the files below a folder that are not hidden, those in zip files too, each with its folder."""
    if isinstance(root, zipfile.Path):
        yield from _files_in(root)
        return
    for path in files_below(Path(str(root))):
        if path.suffix.lower() == ".zip":
            yield from _files_in(_inside(path))
        else:
            yield path.parent, path


def _files_in(archive: zipfile.Path) -> Iterator[tuple[PurePath, Traversable]]:
    # One pass over the names: zipfile.Path's own listing looks at all of them for each folder.
    # A name that stands there twice, as of a file added anew, is read once: the later one.
    for name in dict.fromkeys(archive.root.namelist()):
        *folders, file = name.split("/")
        if file and not is_hidden_file(file) and not any(map(is_hidden_folder, folders)):
            member = zipfile.Path(archive.root, name)
            yield PurePath(str(member)).parent, member


def _hidden(name: str) -> bool:
    return is_hidden_folder(name) or is_hidden_file(name)


def _characters(alphabet: str, drawings: Sequence[tuple[str, Traversable]]) -> tuple[Character, ...]:
    of_character: dict[str, list[Traversable]] = {}
    for character, file in drawings:
        of_character.setdefault(character, []).append(file)
    return tuple(
        Character(f"{alphabet}/{character}", tuple(sorted(files, key=lambda file: file.name)))
        for character, files in sorted(of_character.items())
    )


def _drawn(characters: Sequence[Character]) -> list[tuple[str, str, int]]:
    """Return what tells equal alphabets: the name of each drawing and the CRC-32 of its file."""
    return [
        (character.name, file.name, _checksum(file))
        for character in characters
        for file in character.drawings
    ]


def _checksum(file: Traversable) -> int:
    if isinstance(file, zipfile.Path):
        return file.root.getinfo(file.at).CRC
    try:
        return zlib.crc32(_read_member(file))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{shown(str(file))}: cannot be read ({reason_text(error)}); restore the file"
        ) from None


def _read_member(file: Traversable) -> bytes:
    """Return the bytes of a drawing or a list of names, of a zip file's member those that it unpacks to.

    Raises one of `_ARCHIVE_ERRORS`; ``ValueError`` where it unpacks to more than such a file has.
    """
    with file.open("rb") as opened:
        content: bytes = opened.read(_MEMBER_LIMIT + 1)
    if len(content) > _MEMBER_LIMIT:
        raise ValueError(f"it has more than {_MEMBER_LIMIT / 1e6:g} MB, the most that is read of such a file")
    return content


def read_ink(file: Traversable, image_size: int) -> Tensor:
    """Return a drawing as (1, S, S) uint8, ink 255 on 0: the files hold black ink on white.

    Resized with Pillow's bicubic filter, which widens where it shrinks (antialias), as other picture files are.

    Raises ``DataError`` where the file is no picture, or the zip file around it is damaged.
    """
    from PIL import Image  # here: runs on other data would wait for it

    try:
        with picture_file(_read_member(file), place=shown(str(file))) as picture:
            gray = numpy.asarray(picture.convert("L"))
    except DataError as error:
        raise DataError(f"{error}; fetch the set again") from None
    except _ARCHIVE_ERRORS as error:
        raise DataError(
            f"{shown(str(file))}: cannot be read as a picture ({reason_text(error)}); fetch the set again"
        ) from None
    return as_tensor(fit_square(Image.fromarray(255 - gray), image_size, channels=1))


def load_omniglot(config: OmniglotConfig, *, progress: Progress) -> SourceParts:
    """Return the drawings, all of them in training; parts are held out of it.

    Raises ``DataError``: see `list_characters` and `read_ink`.
    """
    characters = list_characters(config.root)
    files = [(file, label) for label, (_, drawings) in enumerate(characters) for file in drawings]
    pixels = torch.empty(len(files), 1, config.image_size, config.image_size, dtype=torch.uint8)
    for index, (file, _) in enumerate(files):
        pixels[index] = read_ink(file, config.image_size)
        if (index + 1) % 500 == 0 or index + 1 == len(files):
            progress.advance("reading drawings", index + 1, len(files))
    targets = torch.tensor([label for _, label in files])
    names = tuple(character.name for character in characters)
    images = ResidentImages(pixels, image_size=config.image_size)
    return SourceParts(Part(images, targets), None, None, names, channels=1, test_share=config.test)


def alphabets_of(label_names: Sequence[str]) -> str:
    """Return the alphabets of characters in words, as in ``2 alphabets (Greek, Latin)``."""
    names = dict.fromkeys(name.partition("/")[0] for name in label_names)
    return f"{len(names)} alphabet{'s' * (len(names) > 1)} ({listed(names)})"


class OneShotRun(NamedTuple):
    """One run: its pictures, labelled by the position of the training picture that they belong to."""

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
    folders = [
        entry for entry in _entries(_runs_folder(path)) if entry.name.startswith("run") and entry.is_dir()
    ]
    if not folders:
        raise DataError(f"{path}: holds no run01, run02 ...; name Omniglot's all_runs.zip or its folder")
    return [_read_run(folder, image_size) for folder in folders]


def _runs_folder(path: Path) -> Traversable:
    path = expanded(path)
    held = (path / _RUNS, path / f"{_RUNS}.zip") if is_folder(path) else ()
    found = next((inner for inner in held if exists(inner)), path)
    folder = _as_traversable(found, key="omniglot-runs", wanted="Omniglot's all_runs.zip or its folder")
    inner = folder / _RUNS  # a zip file may hold the folder itself
    return inner if inner.is_dir() else folder


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
            raise DataError(f"{file}: {folder / _LABELS} {said}; fetch {_RUNS} again")
        targets.append(position[answer])
    lost = sorted(answer_of.keys() - {f"{folder.name}/test/{file.name}" for file in test})
    if lost:
        raise DataError(f"{folder / _LABELS}: names {lost[0]}, which is not there; fetch {_RUNS} again")
    return OneShotRun(
        folder.name,
        _part(training, list(range(len(training))), image_size),
        _part(test, targets, image_size),
    )


def _answers(folder: Traversable) -> dict[str, str]:
    """Return the training picture of each test picture, by the names that the labels file gives them."""
    file = folder / _LABELS
    if not file.is_file():
        raise DataError(f"{file}: is not there; fetch {_RUNS} again")
    answers: dict[str, str] = {}
    try:
        content = _read_member(file).decode("utf-8")
    except _ARCHIVE_ERRORS as error:
        raise DataError(
            f"{file}: cannot be read as text ({reason_text(error)}); fetch {_RUNS} again"
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
    pictures = folder / name
    files = [file for file in _entries(pictures) if file.is_file()] if pictures.is_dir() else []
    if not files:
        raise DataError(f"{pictures}: holds no picture; fetch {_RUNS} again")
    return files


def _part(files: Sequence[Traversable], targets: Sequence[int], image_size: int) -> Part:
    pixels = torch.stack([read_ink(file, image_size) for file in files])
    return Part(ResidentImages(pixels, image_size=image_size), torch.tensor(targets))


__all__ = [
    "Character",
    "OneShotRun",
    "alphabets_of",
    "list_characters",
    "load_omniglot",
    "omniglot_runs",
    "read_ink",
]
