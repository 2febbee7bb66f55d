"""The recipe of a row: a recipe with a method or losses, settings and teachers put into its table."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from pydantic import ValidationError

from kdcam.comparison.plan.grid import key_of
from kdcam.errors import RecipeError
from kdcam.losses import LOSSES
from kdcam.losses.loss import LossConfig
from kdcam.models.classifier import Task
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.methods import asked_method, fill_method, label_loss, method_names
from kdcam.recipe.recipe_fields import TeacherConfig
from kdcam.recipe.recipe_files import apply_override, read_toml
from kdcam.recipe.table_checks import HEAD_NEEDS
from kdcam.settings.messages import did_you_mean, listed
from kdcam.settings.validation import validation_messages

ALONE = "alone"
"""The method that takes the teacher away: only the loss on the labels."""

_METHODS_ONLY = (ALONE, *(name for name in method_names() if name not in LOSSES))  # names that are no losses
# The task says which loss is on the labels, and the adversary may read the teacher.
_KEYS_OF_LOSSES = ("adversary", "task")


class Variant(NamedTuple):
    """A recipe as it is, with a method, or with losses."""

    source: str  # the recipe as it was named
    method: str | None = None
    losses: str | None = None  # an entry of --losses: "cam", "focal+cam"

    @property
    def word(self) -> str | None:
        """What is put into the recipe."""
        return self.method or self.losses

    def __str__(self) -> str:
        return self.source if self.word is None else f"{self.source} with {self.word}"


def variants_of(
    recipes: Sequence[str],
    *,
    base: str | None = None,
    methods: Sequence[str] = (),
    losses: Sequence[str] = (),
    keys: Sequence[str] = (),
) -> list[Variant]:
    """Return the variants in the order of their rows: the base, its methods, its losses, the other recipes.

    ``keys`` are those of grid and settings. Raises ``RecipeError`` where a name is unknown, where it is open which
    recipe methods and losses go into, and where a key says what they say.
    """
    sources = list(dict.fromkeys(recipes if base is None else (base, *recipes)))
    if not sources:
        raise RecipeError("recipes: found none; name at least one, or --base RECIPE")
    first = sources[0]
    _check_methods(methods)
    put_in = [
        *(Variant(first, method) for method in dict.fromkeys(methods)),
        *(Variant(first, losses=entry) for entry in _checked_entries(losses)),
    ]
    problem = next(_contradictions(methods, losses, keys), None)
    if problem is not None:
        raise RecipeError(problem)
    if put_in and base is None and len(sources) > 1:
        flag = "methods" if methods else "losses"
        raise RecipeError(
            f"{flag}: found {listed(methods or losses)} with {len(sources)} recipes; name the one that they are put "
            "into with --base RECIPE"
        )
    own = [] if put_in and base is None else [Variant(first)]
    return [*own, *put_in, *map(Variant, sources[1:])]


def _check_methods(methods: Sequence[str]) -> None:
    known = [ALONE, *method_names()]
    unknown = [method for method in methods if method not in known]
    if unknown:
        guess = did_you_mean(unknown[0], known)
        if unknown[0] in LOSSES:
            guess = f"; it is a loss without a teacher: --losses {unknown[0]}"
        raise RecipeError(f"methods: found {listed(map(repr, unknown))}{guess}; allowed: {listed(known)}")


def _checked_entries(entries: Sequence[str]) -> list[str]:
    """Return entries ``NAME`` or ``NAME+NAME`` without spaces, each once.

    Raises ``RecipeError`` for an unknown name, for a loss that an entry names twice, and for a loss that reads a
    teacher by itself: as a row it is a method, with the loss on the labels and published weights.
    """
    gaps = [entry for entry in entries if not all(_entry_names(entry))]
    if gaps:
        raise RecipeError(
            f"losses: found {listed(map(repr, gaps))}; must read NAME or NAME+NAME, as in focal+cam"
        )
    spelled = ["+".join(_entry_names(entry)) for entry in entries]
    names = dict.fromkeys(name for entry in spelled for name in _entry_names(entry))
    unknown = [name for name in names if name not in LOSSES and name not in _METHODS_ONLY]
    if unknown:
        guess = did_you_mean(unknown[0], LOSSES)
        raise RecipeError(f"losses: found {listed(map(repr, unknown))}{guess}; allowed: {listed(LOSSES)}")
    problems = [problem for entry in dict.fromkeys(spelled) for problem in _entry_problems(entry)]
    if problems:
        raise RecipeError("\n  ".join(problems))
    return list(dict.fromkeys(spelled))


def _entry_problems(entry: str) -> Iterator[str]:
    names = _entry_names(entry)
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        yield f"losses: found {entry!r}, which has {listed(twice)} twice; name each loss once"
    for name in names:
        if name in _METHODS_ONLY:
            yield f"losses: found {name!r}, which is a method; name it in --methods {name}"
    if entry in LOSSES and LOSSES[entry].reads_teacher():
        yield (
            f"losses: found {entry!r}, which distils from a teacher; name it in --methods {entry}, which brings the "
            f"loss on the labels and published weights, or name all losses of the row, as in cross_entropy+{entry}"
        )


def _entry_names(entry: str) -> list[str]:
    return [name.strip() for name in entry.split("+")]


def _contradictions(methods: Sequence[str], losses: Sequence[str], keys: Sequence[str]) -> Iterator[str]:
    if methods and "method" in keys:
        yield "method: --methods says which ones there are; leave method out of --grid and --set"
    if losses and "method" in keys:
        yield "method: is not to change beside --losses; leave it out of --grid and --set, and name it in --methods"
    if losses and "loss" in keys:
        yield (
            "loss: --losses says which ones there are; leave loss out of --grid and --set, or change a key of one, as "
            "in loss.cam.weight=3"
        )


class RowTable(NamedTuple):
    """What a row's recipe is read from."""

    table: dict[str, Any]
    without_place: tuple[str, ...]  # settings of a teacher, a loss or a method that the row has not
    # The one that is taken away, with its settings, if it is one: by the method alone, or where no loss reads it.
    former_teacher: TeacherConfig | None


def row_table(
    source: str,
    *,
    method: str | None,
    settings: Sequence[str],
    teachers: Sequence[str],
    losses: str | None = None,
) -> RowTable:
    """Return a row's table.

    Args:
        source: A shipped recipe's name or a TOML file.
        method: A distillation method, `ALONE`, or None for the losses of the recipe.
        settings: ``key=value``; those of ``teacher``, ``loss.NAME`` and ``methods.NAME`` have no place in a row
            without them.
        teachers: Checkpoints that take the place of the recipe's own, where the row has a teacher.
        losses: In the place of a method: an entry as `losses_of` reads it. A teacher that none of them reads, nor the
            attack of ``[adversary]``, is taken away.

    Raises ``RecipeError`` where the recipe cannot be read or a setting leads nowhere.
    """
    table = read_toml(source)
    misplaced = _of_other_methods(table, settings, method if losses is None else ALONE)
    former, others = None, [one for one in settings if one not in misplaced]
    if losses is not None:
        fill_losses(table, losses, others)
        if not _is_taught(table):
            former = _former_teacher(table, others, teachers, f"a row of {losses}")
            table.pop("teacher", None)
    elif method == ALONE:
        former = _former_teacher(table, others, teachers, f"the method {ALONE}")
        _leave_alone(table, others)
    else:
        others = fill_method(table, others, method)
    if any(key_of(one).startswith("loss.") for one in others):
        table.setdefault("loss", [label_loss()])  # what a recipe without it trains with, by name
    taught = "teacher" in table or reads_teacher(table)
    misplaced |= {one for one in others if not _has_place(table, one, taught=taught)}
    for setting in others:
        if setting not in misplaced:
            apply_override(table, setting)
    if teachers and taught:
        table["teacher"] = _with_checkpoints(table.get("teacher"), teachers)
    return RowTable(table, tuple(one for one in settings if one in misplaced), former)


def _of_other_methods(table: Mapping[str, Any], settings: Sequence[str], method: str | None) -> set[str]:
    """Return the settings that choose or change another method than the row's; unknown ones are told elsewhere."""
    own = asked_method(settings, method) or table.get("method")
    return {one for one in settings if _is_of_another(key_of(one).split("."), own)}


def _is_of_another(keys: Sequence[str], own: str | None) -> bool:
    if own is None or own == ALONE:
        return keys[0] == "methods" or (keys[0] == "method" and own == ALONE)
    return keys[0] == "methods" and len(keys) > 1 and keys[1] != own and keys[1] in method_names()


def _leave_alone(table: dict[str, Any], settings: Sequence[str]) -> None:
    """Take the teacher away in place; of the published numbers only one for ``alone`` stays."""
    published = table.pop("published", None)
    for key in ("teacher", "method", "methods", "loss"):
        table.pop(key, None)
    for setting in settings:
        if key_of(setting) == "task":  # it decides the loss
            apply_override(table, setting)
    table["loss"] = [label_loss("multi-label" if table.get("task") == "multi-label" else "single-label")]
    if isinstance(published, Mapping) and isinstance(published.get(ALONE), Mapping):
        table["published"] = dict(published[ALONE])


def _former_teacher(
    table: Mapping[str, Any], settings: Sequence[str], teachers: Sequence[str], taken_by: str
) -> TeacherConfig | None:
    """Return the teacher that the recipe would have with the settings and the checkpoints put in, where it is one."""
    own = {"teacher": deepcopy(table["teacher"])} if "teacher" in table else {}
    for setting in settings:
        if key_of(setting).startswith("teacher."):
            apply_override(own, setting)
    named = _with_checkpoints(own.get("teacher"), teachers) if teachers else own.get("teacher")
    if "teacher" not in table and isinstance(named, dict) and "checkpoint" not in named:
        return None  # settings for the teachers of other rows
    if isinstance(named, list):
        named = named[0] if len(named) == 1 else None
    if named is None:
        return None
    try:
        return TeacherConfig.model_validate(named)
    except ValidationError as error:
        problems = "; ".join(validation_messages(error, TeacherConfig))
        raise RecipeError(f"teacher, which {taken_by} takes away: {problems}") from error


def _is_taught(table: Mapping[str, Any]) -> bool:
    adversary = table.get("adversary")
    attack = adversary.get("maximise") if isinstance(adversary, Mapping) else None
    return attack == "kl_to_teacher" or reads_teacher(table)


def _has_place(table: Mapping[str, Any], setting: str, *, taught: bool) -> bool:
    keys = key_of(setting).split(".")
    losses = table.get("loss")
    if keys[0] == "teacher":
        return taught
    if keys[0] == "loss" and len(keys) > 1 and isinstance(losses, list) and not keys[1].isdecimal():
        return any(isinstance(one, dict) and one.get("name") == keys[1] for one in losses)
    return True


def _with_checkpoints(teacher: Any, checkpoints: Sequence[str]) -> Any:
    """Return the [teacher] table with other checkpoints; a single one's further keys (its cache) hold for all."""
    shared = dict(teacher) if isinstance(teacher, dict) else {}
    if len(checkpoints) == 1:
        return {**shared, "checkpoint": checkpoints[0]}
    return [{**shared, "checkpoint": one} for one in checkpoints]


def fill_losses(table: dict[str, Any], entry: str, settings: Sequence[str] = ()) -> None:
    """Put an entry's losses into a recipe's table in place, where its method or its losses were.

    Of ``settings`` those that decide about the losses are applied. A published number stays where the losses do.
    """
    for setting in settings:
        if key_of(setting).partition(".")[0] in _KEYS_OF_LOSSES:
            apply_override(table, setting)
    by_method = table.pop("method", None) is not None
    table.pop("methods", None)
    own = table.pop("loss", None)
    task: Task = "multi-label" if table.get("task") == "multi-label" else "single-label"
    table["loss"] = losses_of(entry, [] if by_method else _loss_tables(own), task=task)
    if by_method or table["loss"] != ([label_loss()] if own is None else own):
        table.pop("published", None)


def losses_of(
    entry: str, own: Sequence[Mapping[str, Any]], *, task: Task = "single-label"
) -> list[dict[str, Any]]:
    """Return the ``[[loss]]`` tables of an entry.

    One name of a loss that trains a classifier by itself: this loss alone. One name of another: the recipe's own losses
    on the labels (where it has none, the usual one of its task), and this loss behind them. Several names: these, in
    their order, and no others. A loss that the recipe has keeps the settings of all its tables; another has its
    defaults.

    Args:
        entry: One or several names of LOSSES, as ``cam`` or ``focal+cam``.
        own: The recipe's tables; those of a method are none of them.
        task: The recipe's.
    """
    names = entry.split("+")
    found = [table for name in names for table in _tables_of_loss(name, own)]
    if len(names) > 1 or LOSSES[names[0]].trains_classifier:
        return found
    return [*(_label_loss_tables(own) or [label_loss(task)]), *found]


def _tables_of_loss(name: str, own: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [deepcopy(dict(table)) for table in own if table.get("name") == name] or [{"name": name}]


def _label_loss_tables(own: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the tables of losses that train a classifier without a teacher."""
    return [
        deepcopy(dict(table))
        for table in own
        for kind in _loss_configs({"loss": [table]})
        if kind.trains_classifier and not kind.reads_teacher()
    ]


def _loss_tables(losses: object) -> list[Mapping[str, Any]]:
    """Return the tables among what a recipe has as its losses; what else is there gives way."""
    return [one for one in losses if isinstance(one, Mapping)] if isinstance(losses, list) else []


def _loss_configs(table: Mapping[str, Any]) -> list[type[LossConfig]]:
    names = [one.get("name") for one in _loss_tables(table.get("loss"))]
    return [LOSSES[name] for name in names if isinstance(name, str) and name in LOSSES]


def reads_teacher(table: Mapping[str, Any]) -> bool:
    """Return whether a loss of a recipe's table reads a teacher."""
    return any(kind.reads_teacher() for kind in _loss_configs(table))


def model_settings_hint(table: Mapping[str, Any], source: str) -> str:
    """Return how a row gets the model that its losses need, in all rows or alone; an empty text where it has it.

    Args:
        table: The row's, with all settings put in.
        source: The recipe that the losses are put into, as it was named.
    """
    missing = _missing_model_settings(table)
    if not missing:
        return ""
    flags = " ".join(f"--set {one}" for one in missing)
    return (
        f" (in all rows: {flags}; in this row only: a recipe file of its own, named beside --base {source})"
    )


def _missing_model_settings(table: Mapping[str, Any]) -> list[str]:
    """Return the settings ``model.KEY=VALUE`` that the losses of a recipe's table need and its model has not."""
    said = table.get("model")
    model = said if isinstance(said, Mapping) else {}
    head = model.get("head", ModelConfig().head)
    needs = frozenset[str]().union(*(kind.needs for kind in _loss_configs(table)))
    wanted = {HEAD_NEEDS[need] for need in needs & HEAD_NEEDS.keys()}
    if not wanted and any(head in kind.misfit_heads for kind in _loss_configs(table)):
        wanted = {"linear"}
    missing = [f"model.head={one}" for one in wanted if len(wanted) == 1 and one != head]
    if "channel_attention" in needs and not model.get("channel_attention", False):
        missing.append("model.channel_attention=true")
    return missing


__all__ = [
    "ALONE",
    "RowTable",
    "Variant",
    "fill_losses",
    "losses_of",
    "model_settings_hint",
    "reads_teacher",
    "row_table",
    "variants_of",
]
