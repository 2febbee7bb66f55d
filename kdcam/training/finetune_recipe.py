"""A recipe of its own network, read to go on from another one: what [model] says of a network that is not trained."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdcam.errors import KdcamError
from kdcam.models.init_config import InitConfig
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.methods import fill_method
from kdcam.recipe.overrides import apply_override, parse_value
from kdcam.recipe.recipe_files import read_toml, recipe_stem
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe
from kdcam.settings.messages import listed
from kdcam.training.starting_point import is_bare_file, starting_point

_CHECKPOINT_KEY = "init.checkpoint"
_STARTS = ("pretrained", "weights")
_STATISTICS = ("mean", "std")


def load_to_finetune(
    name_or_path: str | Path, overrides: Sequence[str] = ()
) -> tuple[TrainRecipe, str | None]:
    """Return a recipe with its overrides, as `kdcam.load_recipe` does, and what the user should know; None: nothing.

    Where an override names the checkpoint (``init.checkpoint=runs/base-0``) and the recipe's file does not, its [model]
    is of a network that this run does not train. So ``name``, ``pretrained`` and ``weights``, which the checkpoint
    tells, and ``mean`` and ``std`` where the checkpoint is of another network, are left out, unless an override sets
    them. Head, neck and rates stay. A file without config.json needs ``name``, which stays.

    Raises ``RecipeError`` as `kdcam.load_recipe` does; whether there is such a checkpoint is not told here.
    """
    table = read_toml(name_or_path)
    values = {key.strip(): value.strip() for key, _, value in (one.partition("=") for one in overrides)}
    note = None
    if _CHECKPOINT_KEY in values and "checkpoint" not in _table(table, "init"):
        checkpoint = parse_value(values[_CHECKPOINT_KEY])
        if isinstance(checkpoint, str) and not is_bare_file(checkpoint):
            note = _leave_out(table, checkpoint, set_keys=values)
    for override in fill_method(table, overrides, None):
        apply_override(table, override)
    return read_recipe(table, source=str(name_or_path), stem=recipe_stem(name_or_path)), note


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = table.get(key)
    return found if isinstance(found, Mapping) else {}


def _leave_out(table: dict[str, Any], checkpoint: str, *, set_keys: Collection[str]) -> str | None:
    """Take out of a recipe's own [model] what the checkpoint tells, and return what is lost by it, in words."""
    own = _table(table, "model")
    known = _network_of(checkpoint)
    is_other = known is not None and own.get("name", known) != known
    keys = ("name", *_STARTS, *(_STATISTICS if is_other else ()))
    left_out = [key for key in keys if key in own and f"model.{key}" not in set_keys]
    if left_out:
        table["model"] = {key: value for key, value in own.items() if key not in left_out}
    lost = [
        f"{key} = {json.dumps(own[key], default=str)}"
        for key in left_out
        if own[key] and (key != "name" or is_other)
    ]
    if not lost:
        return None
    network = f", which is of {known!r}" if is_other else ""
    way_out = "; to keep mean and std, give them by --set" if set(left_out) & set(_STATISTICS) else ""
    return (
        f"model: left out the recipe's {listed(lost)}, as the run starts from {checkpoint}{network}{way_out}"
    )


def _network_of(checkpoint: str) -> str | None:
    """Return the name of the network that a checkpoint is of; None: it cannot be read, which the run will tell."""
    try:
        return starting_point(InitConfig(checkpoint=checkpoint), ModelConfig()).model.name
    except (KdcamError, ValueError):
        return None


__all__ = ["load_to_finetune"]
