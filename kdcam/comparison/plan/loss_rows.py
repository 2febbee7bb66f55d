"""The losses of a row by name: what an entry of ``--losses`` puts in the place of a recipe's ``[[loss]]`` tables."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from kdcam.comparison.plan.grid import key_of
from kdcam.losses import LOSSES
from kdcam.losses.loss import LossConfig
from kdcam.models.classifier import Task
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.methods import label_loss
from kdcam.recipe.overrides import apply_override
from kdcam.recipe.table_checks import HEAD_NEEDS

_KEYS_OF_LOSSES = (
    "adversary",
    "task",
)  # the latter says which loss is on the labels, the former may read the teacher


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


def _loss_tables(losses: object) -> list[Mapping[str, Any]]:
    """Return the tables among what a recipe has as its losses; what else is there gives way."""
    return [one for one in losses if isinstance(one, Mapping)] if isinstance(losses, list) else []


def _loss_configs(table: Mapping[str, Any]) -> list[type[LossConfig]]:
    names = [one.get("name") for one in _loss_tables(table.get("loss"))]
    return [LOSSES[name] for name in names if isinstance(name, str) and name in LOSSES]


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


__all__ = ["fill_losses", "losses_of", "model_settings_hint", "reads_teacher"]
