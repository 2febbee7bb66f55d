"""What a fine-tuning starts from: [init] and what [model] says made one network, and recipes read for it."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from kdcam.errors import CheckpointError, KdcamError, ModelError, RecipeError
from kdcam.files.paths import exists, expanded, is_file, is_folder
from kdcam.files.weight_location import CONFIG_FILE, WEIGHTS_SUFFIXES, location_kind
from kdcam.models.model_config import InitConfig, ModelConfig
from kdcam.models.weights.config_json import StoredModel, read_config
from kdcam.models.weights.foreign_checkpoints import architecture_from_path, is_foreign
from kdcam.models.weights.packaged_weights import is_packaged, packaged
from kdcam.models.weights.published_networks import published_classes
from kdcam.recipe.methods import fill_method
from kdcam.recipe.recipe_files import apply_override, parse_value, read_toml, recipe_stem
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe
from kdcam.settings.messages import listed
from kdcam.settings.validation import validation_messages

_CHECKPOINT_KEY = "init.checkpoint"
_STATISTICS = ("mean", "std")
_WEIGHT_KEYS = ("pretrained", "weights")


class StartingPoint(NamedTuple):
    """A network as a run starts with it."""

    model: ModelConfig
    stored: StoredModel | None = None  # what the checkpoint's config.json tells; None: it has none


# How [init] and [model] become one table: docs/decisions/018.
def starting_point(init: InitConfig, written: ModelConfig) -> StartingPoint:
    """Return where a fine-tuning starts; reads no weights and fetches nothing.

    A run folder's config.json tells network, neck, head and statistics, a name or a package the network; keys that
    ``written`` sets count more, so that another head or dropout can be asked for, but the network must be the
    checkpoint's. A file without config.json is of ``written.name``, or of the network that its folder names.

    Raises ``CheckpointError``, ``ModelError`` or ``RecipeError`` where there is no such checkpoint, or the two do not
    fit.
    """
    checkpoint, path = init.checkpoint, expanded(init.checkpoint)
    if is_packaged(checkpoint):
        with init_errors():
            network = packaged(checkpoint).network
        return StartingPoint(_merged(written, {"name": network, "weights": checkpoint}, checkpoint))
    if is_file(path) and is_bare_file(checkpoint):
        return StartingPoint(_of_bare_file(written, path))
    if exists(path):
        _check_folder(checkpoint, path)
        stored = read_config(path)
        known = stored.model.model_dump() | {"pretrained": False, "weights": str(path)}
        return StartingPoint(_merged(written, known, checkpoint), stored)
    if location_kind(checkpoint) == "missing":
        raise CheckpointError(
            f"init.checkpoint: {checkpoint} is not there; give a run folder, a .safetensors or .pth file, the name of "
            "a timm or torchvision network, or package:NAME"
        )
    try:
        classes = published_classes(checkpoint)
    except ModelError as error:
        reason = str(error).removeprefix("model.name: ")
        raise ModelError(f"init.checkpoint: {checkpoint} is no run folder or file, and {reason}") from error
    if classes is None:
        raise ModelError(
            f"init.checkpoint: {checkpoint} is no run folder or file, and a network of this name has no published "
            "weights; train it (kdcam train) and give its run folder"
        )
    return StartingPoint(_merged(written, {"name": checkpoint, "pretrained": True}, checkpoint))


def is_bare_file(checkpoint: str) -> bool:
    """Return whether a checkpoint is, or by its name would be, a file of weights without a config.json that names the
    network.
    """
    path = expanded(checkpoint)
    if is_file(path):
        return is_foreign(path) or not is_file(path.parent / CONFIG_FILE)
    return checkpoint.endswith(WEIGHTS_SUFFIXES) and not exists(path)


@contextmanager
def init_errors() -> Iterator[None]:
    """Let the errors about starting weights name the keys of [init]."""
    try:
        yield
    except KdcamError as error:
        raise type(error)(init_message(str(error))) from error


def init_message(text: str) -> str:
    """Return a message about ``model.weights`` or ``model.pretrained`` as one about ``init.checkpoint``."""
    text = text.replace(
        "set pretrained = false or name a local file in model.weights", "name a local file there"
    )
    return text.replace("model.weights", "init.checkpoint").replace("model.pretrained", "init.checkpoint")


def _check_folder(checkpoint: str, path: Path) -> None:
    if is_folder(path) and not is_file(path / CONFIG_FILE):
        raise CheckpointError(
            f"init.checkpoint: {checkpoint} is a folder without {CONFIG_FILE}; give a run folder that has finished an "
            "epoch, or the file of weights in it"
        )


def _of_bare_file(written: ModelConfig, path: Path) -> ModelConfig:
    named = written.name if "name" in written.model_fields_set else architecture_from_path(path)
    if named is None:
        raise CheckpointError(
            f"init.checkpoint: {path} does not say which network it is of, and its folder's name tells none; set "
            'model.name, as in name = "kdcam:resnet32x4"'
        )
    return _merged(written, {"name": named, "weights": str(path)}, str(path))


def _merged(written: ModelConfig, known: dict[str, Any], checkpoint: str) -> ModelConfig:
    """Return what is known of a network, changed by the keys that a recipe writes."""
    wanted = {
        key: value for key, value in written if key in written.model_fields_set and key not in _WEIGHT_KEYS
    }
    if wanted.get("name", known["name"]) != known["name"]:
        raise RecipeError(
            f"model.name: found {wanted['name']!r}, but init.checkpoint ({checkpoint}) is of {known['name']!r}; leave "
            "model.name out, or start from a checkpoint of that network"
        )
    table = known | wanted
    # What belongs to a head or a block that the recipe leaves out.
    if table.get("head") != "cosine" and "scale" not in wanted:
        table.pop("scale", None)
    if not table.get("channel_attention") and "attention_reduction" not in wanted:
        table.pop("attention_reduction", None)
    try:
        return ModelConfig.model_validate(table)
    except ValidationError as error:
        problems = validation_messages(error, ModelConfig, place="model")
        raise RecipeError(f"{problems[0]} (with what init.checkpoint, {checkpoint}, tells)") from error


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
    keys = ("name", *_WEIGHT_KEYS, *(_STATISTICS if is_other else ()))
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


__all__ = [
    "StartingPoint",
    "init_errors",
    "init_message",
    "is_bare_file",
    "load_to_finetune",
    "starting_point",
]
