"""Wrong training labels: made on purpose or read from CSV files, with a record of which are wrong."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.data.common_config import NoiseConfig, NoiseKind
from kdcam.data.sources.cifar_classes import confused_classes
from kdcam.errors import DataError
from kdcam.files.csv_files import CsvRow, by_column, column_names, read_csv, shown_columns
from kdcam.files.paths import expanded, is_file, path_below, shown
from kdcam.runtime.seeding import seeded_generator
from kdcam.settings.messages import did_you_mean, listed

_SUM_TOLERANCE = 1e-6  # of a row of probabilities; kdcam's choice
_DRAWN_AT_ONCE = 16_384  # labels; a row of K probabilities is held for each


class NoisyLabels(NamedTuple):
    """The labels of the training part before and after noise."""

    clean: Tensor  # (N,) int64
    noisy: Tensor  # (N,) int64, what training sees
    changed: Tensor  # (N,) bool, noisy != clean
    kind: NoiseKind
    nominal_rate: float | None  # share of wrong labels to expect; None: labels read from a file, not drawn

    @property
    def realised_rate(self) -> float:
        """Return the share of labels that are wrong."""
        return float(self.changed.double().mean())

    def summary(self) -> dict[str, str | float | None]:
        """Return the kind, and how many labels were to be wrong and are."""
        return {"kind": self.kind, "nominal_rate": self.nominal_rate, "realised_rate": self.realised_rate}

    def sentence(self) -> str:
        """Return the summary in words."""
        expected = "" if self.nominal_rate is None else f", {self.nominal_rate:.1%} were to be expected"
        return (
            f"label noise ({self.kind}): {self.realised_rate:.1%} of the training labels are wrong{expected}"
        )


class TrainingImages(NamedTuple):
    """The images that are trained on, as a label file names them."""

    positions: Tensor  # (N,) int64 in the source's training part, before any image was held out
    source_images: int  # how many that part holds
    root: Path | None  # the folder that paths start at; None where images are not files of their own
    paths: tuple[Path, ...] | None


class _Row(NamedTuple):
    place: str  # the file and the line, for messages
    cells: Mapping[str, str]


def add_noise(
    targets: Tensor, config: NoiseConfig, *, label_names: Sequence[str], images: TrainingImages
) -> NoisyLabels:
    """Return the noisy labels that ``config`` asks for; the same for the same targets and config.

    Args:
        targets: (N,) int64, the labels of the training part.
        config: Which noise.
        label_names: The classes.
        images: The images of the training part, which a file of labels names.

    Raises ``DataError`` as `transition_matrix` and `read_labels` do.
    """
    transition = transition_matrix(config, label_names)
    if transition is None:
        assert config.file is not None
        assert config.column is not None
        noisy = read_labels(
            config.file, config.column, images=images, targets=targets, label_names=label_names
        )
        return NoisyLabels(targets, noisy, noisy != targets, config.kind, None)
    generator = seeded_generator(config.seed)
    if config.kind == "symmetric":
        assert config.rate is not None
        noisy = symmetric_noise(targets, num_classes=len(label_names), rate=config.rate, generator=generator)
    else:
        noisy = matrix_noise(targets, transition, generator=generator)
    nominal = 1 - float(transition.diagonal()[targets].mean())
    return NoisyLabels(targets, noisy, noisy != targets, config.kind, nominal)


def check_noise(config: NoiseConfig, *, num_classes: int, label_names: Sequence[str] | None) -> None:
    """Raise ``DataError`` for what is wrong with a noise before any image is read.

    ``label_names`` is None where the names of the classes are not known yet.
    """
    if num_classes < 2:
        raise DataError(
            f"data.noise: found {num_classes} class in the data, where no label can be wrong; add a second class, or "
            "remove data.noise"
        )
    if config.kind == "file":
        assert config.file is not None
        assert config.column is not None
        check_labels_file(config.file, config.column)
    elif config.kind == "matrix":
        assert config.file is not None
        read_matrix(config.file, num_classes)
    elif config.kind == "asymmetric" and label_names is not None:
        confused_classes(label_names)


def transition_matrix(config: NoiseConfig, label_names: Sequence[str]) -> Tensor | None:
    """Return the transition matrix (K, K) float64 that ``config`` asks for; None for labels read from a file.

    Raises ``DataError`` for asymmetric noise on classes that it is not defined for, and for a bad matrix file.
    """
    num_classes, rate = len(label_names), config.rate or 0.0  # the settings see to a rate where there is one
    match config.kind:
        case "symmetric":
            return symmetric_transition(num_classes, rate)
        case "symmetric-inclusive":
            return symmetric_inclusive_transition(num_classes, rate)
        case "asymmetric":
            return asymmetric_transition(label_names, rate)
        case "pairflip":
            return pairflip_transition(num_classes, rate)
        case "matrix":
            assert config.file is not None
            return read_matrix(config.file, num_classes)
        case "file":
            return None


def symmetric_transition(num_classes: int, rate: float) -> Tensor:
    """Return the matrix (K, K) float64 of exclusive symmetric noise: rate / (K - 1) off the diagonal.

    In this and the other transition matrices entry (i, j) is the probability that a label i becomes j.
    """
    _check_classes(num_classes)
    matrix = torch.full((num_classes, num_classes), rate / (num_classes - 1), dtype=torch.float64)
    return matrix.fill_diagonal_(1 - rate)


def symmetric_inclusive_transition(num_classes: int, rate: float) -> Tensor:
    """Return the matrix (K, K) float64 of noise that draws from all classes: rate / K off the diagonal."""
    _check_classes(num_classes)
    uniform = torch.full((num_classes, num_classes), 1 / num_classes, dtype=torch.float64)
    return (1 - rate) * torch.eye(num_classes, dtype=torch.float64) + rate * uniform


def pairflip_transition(num_classes: int, rate: float) -> Tensor:
    """Return the matrix (K, K) float64 of noise that takes each class for the next one, the last for the first."""
    _check_classes(num_classes)
    return _mapped({k: (k + 1) % num_classes for k in range(num_classes)}, num_classes, rate)


def asymmetric_transition(label_names: Sequence[str], rate: float) -> Tensor:
    """Return the matrix (K, K) float64 of noise between look-alikes; see `confused_classes`, whose errors it raises."""
    return _mapped(confused_classes(label_names), len(label_names), rate)


def _mapped(taken_for: dict[int, int], num_classes: int, rate: float) -> Tensor:
    matrix = torch.eye(num_classes, dtype=torch.float64)
    for label, other in taken_for.items():
        matrix[label, label] = 1 - rate
        matrix[label, other] = rate
    return matrix


def symmetric_noise(targets: Tensor, *, num_classes: int, rate: float, generator: torch.Generator) -> Tensor:
    """Return ``targets`` (N,) with each label changed with probability ``rate`` to one of the other classes.

    The exclusive form: a changed label is never the true one, and off the diagonal the transition matrix is
    rate / (num_classes - 1). Each label is drawn on its own, so the realised rate differs a little from
    ``rate``.
    """
    _check_classes(num_classes)
    hit = torch.rand(targets.shape, generator=generator) < rate
    shift = torch.randint(1, num_classes, targets.shape, generator=generator)
    return torch.where(hit, (targets + shift) % num_classes, targets)


def matrix_noise(targets: Tensor, transition: Tensor, *, generator: torch.Generator) -> Tensor:
    """Return labels (N,) drawn, each on its own, from the rows of ``transition`` (K, K) that ``targets`` (N,) name."""
    cumulative = transition.double().cumsum(1)
    cumulative = cumulative / cumulative[:, -1:]  # ends at 1 exactly, above every draw
    draws = torch.rand(targets.shape, generator=generator, dtype=torch.float64)
    drawn = [
        torch.searchsorted(cumulative[labels], draw[:, None], right=True).squeeze(1)
        for labels, draw in zip(targets.split(_DRAWN_AT_ONCE), draws.split(_DRAWN_AT_ONCE), strict=True)
    ]
    return torch.cat(drawn)


def _check_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; label noise needs at least 2 classes")


def read_matrix(file: Path, num_classes: int) -> Tensor:
    """Return the transition matrix (K, K) float64 of a CSV file: a line for each true class, no header.

    Raises ``DataError`` where the file cannot be read, is not K x K, or a line is no distribution.
    """
    lines = list(_csv_rows(file))
    rows = [_numbers(row.cells, f"{shown(file)}, line {row.line}") for row in lines]
    if len(rows) != num_classes or any(len(row) != num_classes for row in rows):
        widths = listed(sorted({len(row) for row in rows}))
        raise DataError(
            f"{file}: holds {len(rows)} lines of {widths} numbers, and the data has {num_classes} classes; write "
            f"{num_classes} lines of {num_classes} probabilities, without a header"
        )
    matrix = torch.tensor(rows, dtype=torch.float64)
    for row, total in zip(lines, matrix.sum(1).tolist(), strict=True):
        if abs(total - 1) > _SUM_TOLERANCE:
            sideways = bool(((matrix.sum(0) - 1).abs() <= _SUM_TOLERANCE).all())
            raise DataError(
                f"{shown(file)}, line {row.line}: the probabilities sum to {total:.6g}; each line (a true class) "
                "must sum to 1" + ("; the columns do, so write columns as lines" if sideways else "")
            )
    return matrix


def _numbers(cells: Sequence[str], place: str) -> list[float]:
    numbers = []
    for cell in cells:
        try:
            number = float(cell)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1:
            raise DataError(f"{place}: found {cell[:50]!r}; must be a probability, 0 to 1")
        numbers.append(number)
    return numbers


def check_labels_file(file: Path, column: str) -> None:
    """Raise ``DataError`` unless a file of labels can be read and has the columns it needs."""
    next(_labelled_rows(file, column), None)


def read_labels(
    file: Path, column: str, *, images: TrainingImages, targets: Tensor, label_names: Sequence[str]
) -> Tensor:
    """Return the labels (N,) int64 that a CSV file gives to the training images.

    Lines for images that are held out of training are not used. The labels of the column are read as names where as
    many of them are names of classes as are whole numbers, otherwise as indices.

    Args:
        file: Has a header with ``column`` and ``path`` or ``index``; with both, ``path`` counts for picture files.
        column: Where the labels stand.
        images: The images that are trained on.
        targets: (N,) their labels in the data, which a column ``clean`` must repeat.
        label_names: The classes.

    Raises ``DataError`` where the file cannot be read or lacks a column, where a line names no image, one that an
    earlier line names, or a label that is none, and where a training image has no line or another clean label.
    """
    rows = list(_labelled_rows(file, column))
    by_path = images.paths is not None
    key = "path" if by_path else "index"
    if rows and key not in rows[0].cells:
        other = "index" if by_path else "path"
        why = (
            "pictures of a folder are known by their path" if by_path else "images of this data have no path"
        )
        raise DataError(f"{file}: has the column {other!r}, but {why}; add the column {key!r}")
    found = _rows_by_position(rows, images, file)
    labels = _class_indices([row.cells[column] for row in found], found, column, label_names)
    if column != "clean" and rows and "clean" in rows[0].cells:
        _check_clean(found, targets, label_names)
    return torch.tensor(labels, dtype=torch.int64)


def _labelled_rows(file: Path, column: str) -> Iterator[_Row]:
    rows, place = _csv_rows(file), shown(file)
    header = next(rows, None)
    columns = [] if header is None else column_names(header, error=DataError, place=place)
    if column not in columns or not {"index", "path"} & set(columns):
        raise DataError(
            f"{place}, line 1: found the columns {shown_columns(columns)}{did_you_mean(column, columns[:100])}; "
            f"needed: data.noise.column = {column!r}, and index or path"
        )
    for row in rows:
        yield _Row(f"{place}, line {row.line}", by_column(row, columns, error=DataError, place=place))


def _rows_by_position(rows: Sequence[_Row], images: TrainingImages, file: Path) -> list[_Row]:
    """Return the row of each training image, in the order of the images."""
    names = _image_names(images)
    known = frozenset(names)
    found: dict[str, _Row] = {}
    for row in rows:
        name = _named_image(row, images)
        if name in found:
            raise DataError(
                f"{row.place}: names image {name[:200]!r} again, after {found[name].place}; keep one line for an image"
            )
        if name not in known:
            _check_is_held_out(name, row, images)
        found[name] = row
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(
            f"{file}: has no line for {len(missing)} of {len(names)} training images, the first being {missing[0]!r}; "
            "add a line for each"
        )
    return [found[name] for name in names]


def _image_names(images: TrainingImages) -> list[str]:
    if images.paths is None:
        return [str(position) for position in images.positions.tolist()]
    assert images.root is not None
    return [path.relative_to(images.root).as_posix() for path in images.paths]


def _named_image(row: _Row, images: TrainingImages) -> str:
    if images.paths is not None:
        return Path(os.path.normpath(row.cells["path"])).as_posix()
    index = _whole_number(row.cells["index"])
    return row.cells["index"] if index is None else str(index)


def _check_is_held_out(name: str, row: _Row, images: TrainingImages) -> None:
    """Raise ``DataError`` where a name is of no image at all; those of other parts may stand in the file."""
    if images.root is not None:
        path = path_below(images.root, name)
        if path is None or not is_file(path):
            raise DataError(
                f"{row.place}: there is no picture {name[:200]!r}; name pictures from data.root = {images.root} on"
            )
        return
    index = _whole_number(name)
    if index is None or index >= images.source_images:
        raise DataError(
            f"{row.place}: found index {name[:50]!r}; allowed: 0 to {images.source_images - 1}, the place in the "
            "source's training part"
        )


def _whole_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _class_indices(
    cells: Sequence[str], rows: Sequence[_Row], column: str, label_names: Sequence[str]
) -> list[int]:
    numbers = {str(index): index for index in range(len(label_names))}
    names = {name: index for index, name in enumerate(label_names)}
    as_names = sum(cell in names for cell in cells) >= sum(_whole_number(cell) is not None for cell in cells)
    known = names if as_names else numbers
    for cell, row in zip(cells, rows, strict=True):
        if cell not in known:
            allowed = f"{listed(label_names[:10])}{' ...' * (len(label_names) > 10)}"
            raise DataError(
                f"{row.place}: found {cell[:50]!r} in the column {column!r}{did_you_mean(cell[:50], known)}; allowed: "
                f"names of classes ({allowed}) in all lines, or in all lines indices from 0 to {len(label_names) - 1}"
            )
    return [known[cell] for cell in cells]


def _check_clean(rows: Sequence[_Row], targets: Tensor, label_names: Sequence[str]) -> None:
    stated = _class_indices([row.cells["clean"] for row in rows], rows, "clean", label_names)
    for row, here, there in zip(rows, stated, targets.tolist(), strict=True):
        if here != there:
            raise DataError(
                f"{row.place}: says that the image's clean label is {label_names[here]!r}, in the data it is "
                f"{label_names[there]!r}; the lines belong to other images or to another order of them"
            )


def _csv_rows(file: Path) -> Iterator[CsvRow]:
    return read_csv(expanded(file), error=DataError, place=f"data.noise.file: {shown(file)}")


__all__ = [
    "NoisyLabels",
    "TrainingImages",
    "add_noise",
    "asymmetric_transition",
    "check_labels_file",
    "check_noise",
    "matrix_noise",
    "pairflip_transition",
    "read_labels",
    "read_matrix",
    "symmetric_inclusive_transition",
    "symmetric_noise",
    "symmetric_transition",
    "transition_matrix",
]
