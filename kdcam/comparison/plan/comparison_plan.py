"""What a comparison runs: rows times seeds, named, and checked before any run."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kdcam.comparison.plan.grid import checked_seeds, grid_settings, key_of, with_teacher_flag
from kdcam.comparison.plan.row_recipes import RowTable, Variant, model_settings_hint, row_table, variants_of
from kdcam.errors import RecipeError
from kdcam.files.paths import is_file, resolved
from kdcam.recipe.recipe_fields import Published, TeacherConfig
from kdcam.recipe.recipe_files import recipe_stem
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe
from kdcam.settings.messages import listed

_LONGEST_NAME = 60  # characters, of up to 4 bytes each; a folder takes 255 bytes, and its seed is added
# Where a run is made and how fast, and its teacher, which flags name anew on each machine; a method has its own number.
_KEYS_WITHOUT_EFFECT = ("compile", "data.root", "data.workers", "method", "precision")
# How training treats the data that it is given, which is what a comparison may be about; validation and test stay.
_TRAINING_DATA_KEYS = {"augment", "cutmix", "mixup", "noise", "workers"}


@dataclass(frozen=True)
class PlannedRow:
    """One line of the table."""

    name: str  # in the table: only what differs from the other rows
    folder: str  # what its runs' folders are called, whatever the other rows
    recipe: TrainRecipe  # its seed is each cell's own
    source: str  # the recipe as it was named
    method: str | None  # None, and no losses: the recipe's own
    settings: tuple[str, ...]  # "key=value" of the grid
    teacher: TeacherConfig | None  # against which agreement is measured; None: there is not exactly one
    published: Published | None  # the recipe's number, where the row has the recipe's own settings
    losses: str | None = None  # those in the place of the recipe's, as they were named: "cam", "focal+cam"


@dataclass(frozen=True)
class Cell:
    """One run: a row with a seed."""

    row: PlannedRow
    seed: int

    @property
    def name(self) -> str:
        """The run folder's name, ``<recipe>[-<method or losses>][-<settings>]-<seed>``."""
        return f"{self.row.folder}-{self.seed}"

    @property
    def recipe(self) -> TrainRecipe:
        """The row's recipe with this seed."""
        return self.row.recipe.model_copy(update={"seed": self.seed})


@dataclass(frozen=True)
class ComparisonPlan:
    """All that a comparison runs; its first row is the base of the differences."""

    rows: tuple[PlannedRow, ...]
    seeds: tuple[int, ...]
    sets: tuple[str, ...] = ()  # "key=value" that all rows share
    teachers: tuple[str, ...] = ()  # checkpoints in the place of the recipes' own
    messages: tuple[str, ...] = ()  # what the user should know: rows that were one, settings without a place

    def cells(self) -> list[Cell]:
        """Return the runs, seed by seed, so that all rows get ahead evenly."""
        return [Cell(row, seed) for seed in self.seeds for row in self.rows]


class _RowRequest(NamedTuple):
    """What one row is made of."""

    variant: Variant
    settings: tuple[str, ...]  # of the grid


class _UncheckedRow(NamedTuple):
    """A row whose recipe is not checked yet."""

    request: _RowRequest
    read: RowTable


class _CheckedRow(NamedTuple):
    """A row before it is known which others there are."""

    label: str
    request: _RowRequest  # with the settings that have a place
    recipe: TrainRecipe
    former_teacher: TeacherConfig | None
    published: Published | None


def plan_comparison(
    recipes: Sequence[str],
    *,
    base: str | None = None,
    methods: Sequence[str] = (),
    losses: Sequence[str] = (),
    grid: Sequence[str] = (),
    sets: Sequence[str] = (),
    teachers: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
) -> ComparisonPlan:
    """Return the plan: a row for each recipe, method and choice of losses, and for each combination of the grid.

    Args:
        recipes: Shipped recipes' names or TOML files.
        base: The recipe of the first row, which the others' differences are to; it need not be among ``recipes``.
        methods: Distillation methods, or "alone" (no teacher, only the loss on the labels), put into the base or the
            only recipe. With ``base`` it is a row with its own losses, too.
        losses: Losses put into the base or the only recipe in the same way, in rows behind those of ``methods``: "cam",
            "focal", "focal+cam"; see `kdcam.comparison.plan.row_recipes.losses_of`.
        grid: ``key=v1,v2,...``: rows with each of the values; of several keys with each combination.
        sets: ``key=value`` for all rows.
        teachers: Checkpoints in the place of those of the recipes.
        seeds: Each row is run with each of them.

    A setting of ``teacher``, ``loss.NAME`` or ``methods.NAME`` is left out of rows without them, which is told in
    ``messages``, as are rows that come to the same recipe and are run once.

    Raises ``RecipeError`` that names all wrong rows at once.
    """
    keys = [key_of(one) for one in (*grid, *sets)]
    variants = variants_of(recipes, base=base, methods=methods, losses=losses, keys=keys)
    combinations = grid_settings(grid, sets)
    requests = [_RowRequest(variant, combination) for variant in variants for combination in combinations]
    try:
        unchecked = _read_tables(requests, sets, teachers)
        messages = list(_messages_on_settings(unchecked, sets))
        checked, merged = _without_equal_rows(_read_recipes(unchecked, sets, teachers))
    except RecipeError as error:
        raise RecipeError(with_teacher_flag(str(error), teachers)) from error
    _check_tasks(checked)
    return ComparisonPlan(
        _rows(checked), checked_seeds(seeds), tuple(sets), tuple(teachers), (*messages, *merged)
    )


def _read_tables(
    requests: Sequence[_RowRequest], sets: Sequence[str], teachers: Sequence[str]
) -> list[_UncheckedRow]:
    unchecked: list[_UncheckedRow] = []
    problems: list[str] = []
    for one in requests:
        try:
            source, method, losses = one.variant
            read = row_table(
                source, method=method, losses=losses, settings=(*sets, *one.settings), teachers=teachers
            )
        except RecipeError as error:
            problems.append(str(error))
        else:
            unchecked.append(_UncheckedRow(one, read))
    _raise_together(problems)
    if teachers and not any("teacher" in one.read.table for one in unchecked):
        raise RecipeError(
            f"--teacher {teachers[0]}: no row reads a teacher; name methods that do (--methods kd), or leave it out"
        )
    return unchecked


def _messages_on_settings(unchecked: Sequence[_UncheckedRow], sets: Sequence[str]) -> Iterator[str]:
    """Yield what is told of settings that some rows have no place for; ``RecipeError`` where no row has one."""
    settings = (*sets, *(setting for one in unchecked for setting in one.request.settings))
    for key in dict.fromkeys(map(key_of, settings)):
        having: dict[str, bool] = {}
        for (variant, _), read in unchecked:
            which = str(variant)
            has = key not in map(key_of, read.without_place)
            having[which] = having.get(which, False) or has
        without = [which for which, has in having.items() if not has]
        if len(without) == len(having):
            raise RecipeError(
                f"{key}: no row has a place for it; there is no such table in {listed(without)}"
            )
        if without:
            yield f"{key} has no place in {listed(without)}, and changes nothing there"


def _read_recipes(
    unchecked: Sequence[_UncheckedRow], sets: Sequence[str], teachers: Sequence[str]
) -> list[_CheckedRow]:
    labels = source_labels(dict.fromkeys(one.request.variant.source for one in unchecked))
    checked: list[_CheckedRow] = []
    problems: list[str] = []
    for (variant, settings), read in unchecked:
        source = variant.source
        placed = _RowRequest(variant, tuple(one for one in settings if one not in read.without_place))
        label = label_of(labels[source], variant.word, placed.settings, several=len(labels) > 1)
        place = source if label == labels[source] else f"{source} ({label})"
        try:
            recipe = read_recipe(read.table, source=place)
        except RecipeError as error:
            way = model_settings_hint(read.table, source) if variant.losses else ""
            problems.append(str(error) + way)
        else:
            published = published_number(recipe, variant, settings=settings, sets=sets, teachers=teachers)
            checked.append(_CheckedRow(label, placed, recipe, read.former_teacher, published))
    _raise_together(problems)
    return checked


def _raise_together(problems: Sequence[str]) -> None:
    different = list(dict.fromkeys(problems))
    if len(different) == 1:
        raise RecipeError(different[0])
    if different:
        raise RecipeError(f"{len(different)} rows cannot be run:\n  " + "\n  ".join(different))


def _without_equal_rows(checked: Sequence[_CheckedRow]) -> tuple[list[_CheckedRow], list[str]]:
    """Return the rows of different recipes, and what is told of those that equal an earlier one."""
    different: dict[str, _CheckedRow] = {}
    messages: list[str] = []
    for row in checked:
        identity = recipe_identity(row.recipe)
        first = different.setdefault(identity, row)
        if first.former_teacher != row.former_teacher:
            different[identity] = first._replace(
                former_teacher=None
            )  # which one it should agree with is open
        if first is not row and first.label != row.label:
            messages.append(
                f"{row.label} is the same recipe as {first.label}, and is run once, as {first.label}"
            )
    return list(different.values()), messages


def _check_tasks(checked: Sequence[_CheckedRow]) -> None:
    first = checked[0]
    for row in checked:
        if row.recipe.task != first.recipe.task:
            raise RecipeError(
                f"task: {first.label} has {first.recipe.task!r} and {row.label} {row.recipe.task!r}, whose scores "
                "cannot stand in one table; compare them apart"
            )


def _rows(checked: Sequence[_CheckedRow]) -> tuple[PlannedRow, ...]:
    only = _only_teacher(checked)
    identities = [
        repr((source_identity(variant.source), variant.word, sorted(settings)))
        for variant, settings in (row.request for row in checked)
    ]
    names = unique_names([row.label for row in checked], identities)
    folders = unique_names(
        [
            folder_of(variant.source, variant.word, settings)
            for variant, settings in (one.request for one in checked)
        ],
        identities,
    )
    return tuple(
        PlannedRow(
            name=name,
            folder=folder,
            recipe=row.recipe,
            **row.request.variant._asdict(),
            settings=row.request.settings,
            teacher=_teacher_of(row, only),
            published=row.published,
        )
        for name, folder, row in zip(names, folders, checked, strict=True)
    )


def _only_teacher(checked: Sequence[_CheckedRow]) -> TeacherConfig | None:
    """Return the teacher that all rows with one share, however they keep its outputs; None where they differ."""
    found = {
        (teacher.checkpoint, teacher.name, teacher.mean, teacher.std): teacher
        for row in checked
        for teacher in (row.former_teacher, *row.recipe.teachers)
        if teacher is not None
    }
    return next(iter(found.values())) if len(found) == 1 else None


def _teacher_of(row: _CheckedRow, only: TeacherConfig | None) -> TeacherConfig | None:
    own = row.recipe.teachers
    if own:
        return own[0] if len(own) == 1 else None
    return row.former_teacher or only


def recipe_identity(recipe: TrainRecipe) -> str:
    """Return what decides the runs of a row, whose seed is each cell's own."""
    facts = recipe.model_dump(mode="json", exclude={"description", "published", "seed"})
    return json.dumps(facts, sort_keys=True)


def have_same_data(one: TrainRecipe, other: TrainRecipe) -> bool:
    """Return whether the scores of two recipes are of the same images, and of training on the same ones.

    However they augment and mix them, and whatever noise the training labels have; another split or size makes other
    data.
    """
    first, second = (
        recipe.data.model_dump(mode="json", exclude=_TRAINING_DATA_KEYS) for recipe in (one, other)
    )
    return first == second


def published_number(
    recipe: TrainRecipe,
    variant: Variant,
    *,
    settings: Sequence[str],
    sets: Sequence[str],
    teachers: Sequence[str],
) -> Published | None:
    """Return the number of a row's recipe where the row has the settings of the recipe's file, for which it stands.

    Args:
        recipe: The row's, with all settings put in.
        variant: The row's recipe as it was named, with its method or losses.
        settings: Those of the grid; of these only ``method`` leaves a number standing: its own.
        sets: Settings that all rows share; of these only some leave the number standing: of the method, of the teacher,
            and of where and how fast the runs are made.
        teachers: Checkpoints in the place of the recipe's own.
    """
    if recipe.published is None:
        return None
    neutral = [
        one for one in sets if key_of(one) in _KEYS_WITHOUT_EFFECT or key_of(one).startswith("teacher.")
    ]
    neutral += [one for one in settings if key_of(one) == "method"]
    try:
        own = row_table(
            variant.source, method=variant.method, losses=variant.losses, settings=neutral, teachers=teachers
        )
        as_published = read_recipe(own.table, source=variant.source)
    except RecipeError:  # by itself it says too little
        return None
    return recipe.published if recipe_identity(as_published) == recipe_identity(recipe) else None


def source_labels(sources: Iterable[str]) -> dict[str, str]:
    """Return a short name for each recipe: its stem, with the folders before it that tell equal stems apart."""
    parts = {source: Path(source.removesuffix(".toml")).parts for source in sources}
    deepest = max(1, *map(len, parts.values()))
    for depth in range(1, deepest + 1):
        labels = {source: "-".join(of_source[-depth:]) for source, of_source in parts.items()}
        if len(set(labels.values())) == len(labels):
            break
    return labels


def label_of(source_label: str, put_in: str | None, settings: Sequence[str], *, several: bool) -> str:
    """Return a row's label: the recipe where there are several (or nothing else), method or losses, settings."""
    words = [put_in, *map(_short, settings)]
    given = [word for word in words if word is not None]
    return "-".join([source_label, *given] if several or not given else given)


def folder_of(source: str, put_in: str | None, settings: Sequence[str]) -> str:
    """Return what the folders of a row's runs are called, whatever the other rows: recipe, method or losses, settings.

    The settings are sorted, so that the order of flags does not count.
    """
    return label_of(recipe_stem(source), put_in, sorted(settings), several=True)


def source_identity(source: str) -> str:
    """Return what tells a recipe from another: a file's path however it is spelled, a shipped one's name."""
    path = Path(source)
    return str(resolved(path)) if path.suffix == ".toml" or is_file(path) else source


def unique_names(labels: Sequence[str], identities: Sequence[str]) -> list[str]:
    """Return a name that is safe for a folder for each label; only long and equal ones get a digest.

    That of equal ones is of their row, that of long ones of the whole label: so it does not depend on the other rows,
    and that of a long one not on where its recipe lies.
    """
    names = [_safe(label) for label in labels]
    counts = Counter(name.casefold() for name in names)  # some file systems do not tell A from a
    return [
        _marked(name, identity)
        if counts[name.casefold()] > 1
        else _marked(name, label)
        if len(name) > _LONGEST_NAME
        else name
        for name, label, identity in zip(names, labels, identities, strict=True)
    ]


def _marked(name: str, of: str) -> str:
    return f"{name[: _LONGEST_NAME - 9]}-{hashlib.sha256(of.encode()).hexdigest()[:8]}"


def _short(setting: str) -> str:
    """Return a setting with the last two words of its key: cam.weight=3 for loss.cam.weight=3."""
    key, _, value = setting.partition("=")
    return f"{'.'.join(key.strip().split('.')[-2:])}={value.strip()}"


def _safe(label: str) -> str:
    parts = [_plain(part) for part in re.split(r"\[\s*\]", label)]
    return "[]".join(parts).strip("._-") or "row"  # an empty list would else leave nothing to see


def _plain(text: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", re.sub(r"[\"'\s\[\]{}]", "", text))


__all__ = [
    "Cell",
    "ComparisonPlan",
    "PlannedRow",
    "folder_of",
    "have_same_data",
    "label_of",
    "plan_comparison",
    "published_number",
    "recipe_identity",
    "source_identity",
    "source_labels",
    "unique_names",
]
