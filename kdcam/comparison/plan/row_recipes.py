"""The recipe table of one row: a recipe with a method or losses, settings and teachers put in."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from pydantic import ValidationError

from kdcam.comparison.plan.grid import key_of
from kdcam.comparison.plan.loss_rows import fill_losses, reads_teacher
from kdcam.errors import RecipeError
from kdcam.recipe.methods import asked_method, fill_method, label_loss, method_names
from kdcam.recipe.overrides import apply_override
from kdcam.recipe.recipe_fields import TeacherConfig
from kdcam.recipe.recipe_files import read_toml
from kdcam.settings.recipe_errors import validation_messages

ALONE = "alone"
"""The method that takes the teacher away: only the loss on the labels."""


class RowTable(NamedTuple):
    """What a row's recipe is read from."""

    table: dict[str, Any]
    without_place: tuple[str, ...]  # settings of a teacher, a loss or a method that the row has not
    former_teacher: (
        TeacherConfig | None
    )  # the one that is taken away, with its settings, if it is one: by the method alone, or where no loss reads it


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
        losses: In the place of a method: the names of `kdcam.comparison.plan.loss_rows.losses_of`. A teacher that none
        of
            them reads, nor the attack of ``[adversary]``, is taken away.

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


__all__ = ["ALONE", "RowTable", "row_table"]
