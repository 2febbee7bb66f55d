"""What a fine-tuning starts from: the [init] table and the keys of [model] that are written, made one [model] table."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from kdcam.errors import CheckpointError, KdcamError, ModelError, RecipeError
from kdcam.files.paths import exists, expanded, is_file, is_folder
from kdcam.files.weight_location import WEIGHTS_SUFFIXES, location_kind
from kdcam.models.init_config import InitConfig
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights.config_json import StoredModel, read_config
from kdcam.models.weights.foreign_checkpoints import architecture_from_path, is_foreign
from kdcam.models.weights.packaged_weights import is_packaged, packaged
from kdcam.models.weights.published import published_classes
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runs.run_files import CONFIG_FILE
from kdcam.settings.recipe_errors import validation_messages

_WEIGHT_KEYS = ("pretrained", "weights")


class StartingPoint(NamedTuple):
    """A network as a run starts with it."""

    model: ModelConfig
    stored: StoredModel | None = None  # what the checkpoint's config.json tells; None: it has none


def started_model(recipe: TrainRecipe) -> ModelConfig:
    """Return the network that a recipe trains, and what it starts from: [model], or with [init] what `starting_point`
    makes of both.
    """
    return recipe.model if recipe.init is None else starting_point(recipe.init, recipe.model).model


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


__all__ = [
    "StartingPoint",
    "init_errors",
    "init_message",
    "is_bare_file",
    "started_model",
    "starting_point",
]
