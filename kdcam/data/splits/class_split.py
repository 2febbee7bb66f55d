"""Classes told apart into base, validation and novel ones, and data sets narrowed to the classes of a part.

The images of classes that a run was not trained on are read by `kdcam.data.novel_class_images.novel_classes`.
"""

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kdcam.data.common_config import CLASS_PARTS, ClassPart, ClassSplitConfig, CommonConfig
from kdcam.data.dataset_parts import Part, SourceParts
from kdcam.errors import DataError
from kdcam.files.csv_files import CsvRow, parse_csv
from kdcam.files.paths import expanded, shown
from kdcam.files.text_files import read_text
from kdcam.runtime.seeding import seeded_generator
from kdcam.settings.messages import did_you_mean, first_few, listed, short

_FEWEST_CLASSES = 2  # that a classifier tells apart
_HEADER = ("class", "part")
_NAMED = 5  # classes named in an error; the others are counted


def split_classes(
    label_names: Sequence[str], config: ClassSplitConfig, *, group_of: Callable[[str], str] = str
) -> dict[ClassPart, tuple[str, ...]]:
    """Return the classes of each part, disjoint and together all of ``label_names``, in their order.

    Args:
        label_names: the classes of the data.
        config: a file of classes, or how many to draw. Drawn: a permutation from the seed, of which the first are
            novel, the next validation and the rest base.
        group_of: the group that a class belongs to; groups are drawn as a whole, and counts count them.

    Raises:
        DataError: the file cannot be read or does not fit the classes, two classes have one name, or a part that counts
            is left without a class: base and the part of ``config``.
    """
    repeated = [name for name, count in Counter(label_names).items() if count > 1]
    if repeated:
        raise DataError(
            f"data.class_split: {_some(repeated)} is the name of several classes of the data, so that none of them can "
            "be told apart by name; rename them"
        )
    part_of = (
        _drawn(label_names, config, group_of)
        if config.file is None
        else _filed(config.file, label_names, group_of)
    )
    parts = {part: tuple(name for name in label_names if part_of[name] == part) for part in CLASS_PARTS}
    for part in ("base", config.part):
        if not parts[part]:
            raise DataError(
                f"data.class_split: of {len(label_names)} classes none is left as {part}; "
                + (
                    "ask for fewer novel and validation classes"
                    if config.file is None
                    else f"change {config.file}"
                )
            )
    return parts


def _drawn(
    label_names: Sequence[str], config: ClassSplitConfig, group_of: Callable[[str], str]
) -> dict[str, ClassPart]:
    groups = list(dict.fromkeys(map(group_of, label_names)))
    novel, validation = config.novel or 0, config.validation
    if novel + validation >= len(groups):
        grouped = "" if len(groups) == len(label_names) else f" groups of {len(label_names)}"
        raise DataError(
            f"data.class_split: found novel = {novel} and validation = {validation}, but the data has {len(groups)}"
            f"{grouped} classes; allowed: together at most {len(groups) - 1}, since one at least is base"
        )
    order = torch.randperm(len(groups), generator=seeded_generator(config.seed)).tolist()
    drawn: dict[str, ClassPart] = dict.fromkeys(groups, "base")
    drawn.update({groups[k]: "novel" for k in order[:novel]})
    drawn.update({groups[k]: "validation" for k in order[novel : novel + validation]})
    return {name: drawn[group_of(name)] for name in label_names}


def _filed(file: Path, label_names: Sequence[str], group_of: Callable[[str], str]) -> dict[str, ClassPart]:
    groups = {name: group_of(name) for name in label_names}
    known = {*label_names, *groups.values()}
    filed = read_class_parts(file, known)
    unknown = [name for name in filed if name not in known]
    if unknown:
        raise DataError(
            f"{file}: the data has no class {_some(unknown)}{did_you_mean(unknown[0], known)}; its classes: "
            f"{_some(label_names)}"
        )
    twice = [name for name, group in groups.items() if name != group and name in filed and group in filed]
    if twice:
        raise DataError(
            f"{file}: {_some(twice)} is named by itself and by its group {groups[twice[0]]!r}; keep one"
        )
    missing = [name for name, group in groups.items() if name not in filed and group not in filed]
    if missing:
        raise DataError(
            f"{file}: says no part for {len(missing)} of {len(label_names)} classes, {_some(missing)}; add a line for "
            f"each: its name and one of {listed(CLASS_PARTS)}"
        )
    part_of = {name: filed.get(name) or filed[group] for name, group in groups.items()}
    cut = [group for group in dict.fromkeys(groups.values()) if len(_parts_in(group, groups, part_of)) > 1]
    if cut:
        raise DataError(
            f"{file}: {_some(cut)} lies in {listed(_parts_in(cut[0], groups, part_of))}; put all of its classes into "
            "one part"
        )
    return part_of


def _parts_in(
    group: str, groups: Mapping[str, str], part_of: Mapping[str, ClassPart]
) -> tuple[ClassPart, ...]:
    return tuple(dict.fromkeys(part_of[name] for name, found in groups.items() if found == group))


def read_class_parts(file: Path, known: Container[str] = ()) -> dict[str, ClassPart]:
    """Return the part of each class that a CSV file with the header ``class,part`` names, in its order.

    Blanks around a name are dropped, unless a class among ``known`` is called just so.

    Raises:
        DataError: the file is missing or no such CSV file, a part is unknown, or a class stands there twice.
    """
    parts: dict[str, ClassPart] = {}
    lines: dict[str, int] = {}
    rows, written = _rows(file)
    for line, cells in rows:
        if len(cells) != len(_HEADER):
            raise DataError(
                f"{shown(file)}, line {line}: found {len(cells)} cells; allowed: two, a class and its part"
            )
        exact = written.get(line, cells[0])
        name, word = exact if exact in known else cells[0].strip(), cells[1].strip()
        part = next((known for known in CLASS_PARTS if known == word), None)
        if part is None:
            raise DataError(
                f"{shown(file)}, line {line}: the part of {short(name)} is {short(word)}"
                f"{did_you_mean(word, CLASS_PARTS)}; allowed: {listed(CLASS_PARTS)}"
            )
        if name in parts:
            where = f"in {parts[name]} and in {part}" if parts[name] != part else f"twice in {part}"
            raise DataError(
                f"{shown(file)}, line {line}: the class {short(name)} is {where} (line {lines[name]}); keep one of the "
                "lines"
            )
        parts[name], lines[name] = part, line
    return parts


def _rows(file: Path) -> tuple[list[CsvRow], dict[int, str]]:
    """Return the rows below the header, and by their lines the first cells with the blanks before them."""
    text = read_text(expanded(file), error=DataError, place=f"data.class_split.file: {shown(file)}")
    header, *rows = [*parse_csv(text, error=DataError, place=shown(file))] or [CsvRow(1, [])]
    if tuple(cell.strip() for cell in header.cells) != _HEADER:
        found = ",".join(header.cells) or "an empty file"
        raise DataError(
            f"{shown(file)}: begins with {found[:60]!r}; allowed: the header class,part and a line for each class"
        )
    as_written = parse_csv(text, error=DataError, place=shown(file), skip_blanks=False)
    return rows, {row.line: row.cells[0] for row in as_written}


def _some(names: Sequence[str]) -> str:
    return first_few(map(repr, names), most=_NAMED)


def classes_of(
    config: CommonConfig, label_names: Sequence[str], part: ClassPart | None = None
) -> tuple[str, ...]:
    """Return the classes that a data set is narrowed to: all of them where it has no class split.

    ``part`` asks for another part than the split's own. Raises ``DataError`` as `split_classes` does, and where the
    part has a single class.
    """
    split = config.class_split
    if split is None:
        return tuple(label_names)
    wanted = part or split.part
    names = split_classes(label_names, split, group_of=config.class_group)[wanted]
    if len(names) < _FEWEST_CLASSES:
        raise DataError(
            f"data.class_split: makes {len(names)} {wanted} of {len(label_names)} classes ({listed(names)}); allowed: "
            f"{_FEWEST_CLASSES} or more, so change the split"
        )
    return names


def select_source_classes(source: SourceParts, names: Sequence[str]) -> tuple[SourceParts, Tensor]:
    """Return a source with only the classes ``names``, numbered in that order, and where its training images stood.

    A validation or test part without an image of these classes goes. The positions are (N,) int64.
    """
    train, positions = select_classes(source.train, source.label_names, names)
    held = (
        None if part is None else select_classes(part, source.label_names, names)[0]
        for part in (source.validation, source.test)
    )
    validation, test = (part if part is not None and len(part) else None for part in held)
    parts = source._replace(train=train, validation=validation, test=test, label_names=tuple(names))
    return parts, positions


def select_classes(part: Part, label_names: Sequence[str], names: Sequence[str]) -> tuple[Part, Tensor]:
    """Return the images of the classes ``names`` with their labels numbered in that order, and where they stood.

    Raises ``DataError`` where a label is of no class.
    """
    number = {name: index for index, name in enumerate(names)}
    largest = int(part.targets.max()) if len(part) else 0
    if largest >= len(label_names):
        raise DataError(f"data: holds the label {largest}, but there are {len(label_names)} classes")
    table = torch.tensor([number.get(name, -1) for name in label_names])
    targets = table[part.targets]
    positions = (targets >= 0).nonzero().flatten()
    return replace(part.subset(positions), targets=targets[positions]), positions


__all__ = [
    "classes_of",
    "read_class_parts",
    "select_classes",
    "select_source_classes",
    "split_classes",
]
