"""Weights that a network starts from: a .safetensors or .pth file, a run or timm folder, or a Python package."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from kdcam.errors import CheckpointError
from kdcam.files.json_files import layout_errors, read_json
from kdcam.files.paths import expanded, is_file, is_folder
from kdcam.files.weight_location import CONFIG_FILE, MODEL_FILE
from kdcam.models.classifier import Preprocessing, Task
from kdcam.models.heads import logits_layer_name
from kdcam.models.weights.foreign_checkpoints import (
    CIFAR100_STATISTICS,
    ForeignWeights,
    architecture_from_path,
    is_foreign,
    read_foreign,
)
from kdcam.models.weights.packaged_weights import is_packaged, packaged, packaged_tensors
from kdcam.models.weights.safetensors_files import load_exactly, plain_names, read_tensors
from kdcam.settings.messages import listed

STARTS_AFRESH = ": the classifier starts afresh"  # how a note on a classifier of other classes ends
_AVERAGED = "n_averaged"  # an entry of torch.optim.swa_utils.AveragedModel
_WAY_OUT = f"model.weights takes a .safetensors or .pth file, or a folder with a {MODEL_FILE} (a run, or timm's layout)"


def starting_weights(location: str) -> ForeignWeights:
    """Return the tensors at a location; ``CheckpointError`` where there are none."""
    if is_packaged(location):
        return ForeignWeights(packaged_tensors(location), None)
    file = _weight_file(location)
    return read_foreign(file) if is_foreign(file) else ForeignWeights(plain_names(read_tensors(file)), None)


def load_starting_weights(
    network: nn.Module,
    weights: ForeignWeights,
    location: str,
    *,
    without_bias: bool = False,
    other_classes: str | None = None,
) -> list[str]:
    """Load the tensors of a location into a network and return what the user should know about it.

    What stands before all of their names and before none of the network's, as lightning, SWA and other wrappers put
    it there, is removed, which is noted.

    All tensors must fit but the classifier's: one of another class count, or of ``other_classes`` (what they are, as
    `learned_other_classes` tells it), starts afresh, which is noted, and with ``without_bias`` its bias may be missing
    (the weights are of a network with a head that has none).
    Raises ``CheckpointError`` naming the first tensor that does not fit.
    """
    own = network.state_dict()
    tensors, wrappers = _unwrapped(weights.tensors, own)
    found, notes = dict(tensors), list[str]()
    head = logits_layer_name(network)
    head_weight = f"{head}.weight"
    if head is not None and head_weight in found:
        theirs, ours = found[head_weight].shape[0], own[head_weight].shape[0]
        if theirs != ours or other_classes is not None:
            kept = {key: value for key, value in own.items() if key.startswith(f"{head}.")}
            found = {key: value for key, value in found.items() if not key.startswith(f"{head}.")} | kept
            what = f"{theirs} classes, the data {ours}" if theirs != ours else other_classes
            notes.append(f"model.weights has {what}{STARTS_AFRESH}")
    bias = f"{head}.bias"
    if without_bias and bias in own:
        if bias in tensors and bias in found and not notes:
            notes.append("model.weights has a classifier with a bias, which model.head leaves out")
        found.setdefault(bias, own[bias])
    if bias in own and bias not in found and head_weight in found:
        raise CheckpointError(
            f"model.weights: {location} is of a network with another model.head, whose classifier has no bias; set "
            "model.head as in its config.json, or start from what `kdcam export --format timm` makes of it"
        )
    load_exactly(network, found, source=f"model.weights: {location}", what="model.name")
    if weights.note is not None:
        notes.append(f"model.weights: {location}: {weights.note}")
    if wrappers:
        notes.append(
            f"model.weights: {location}: names without {listed(map(repr, wrappers))}, which all of them begin with"
        )
    return notes


def _unwrapped(
    tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return tensors without what stands before all of their names, and what that was, outermost first.

    Nothing is removed once a name is one of the network's. Without torch's count of averaged networks (SWA).
    """
    found = dict(tensors)
    wrappers: list[str] = []
    while found and own.keys().isdisjoint(found):
        inner = {name: tensor for name, tensor in found.items() if name != _AVERAGED}
        firsts = {name.partition(".")[0] for name in inner if "." in name}
        if len(firsts) != 1 or not all("." in name for name in inner):
            break
        (first,) = firsts
        wrappers.append(f"{first}.")
        found = {name.removeprefix(f"{first}."): tensor for name, tensor in inner.items()}
    # Where the network's names are not met in the end, the error names those of the file.
    return (dict(tensors), []) if own.keys().isdisjoint(found) else (found, wrappers)


def holds_neck(tensors: Mapping[str, Tensor]) -> bool:
    """Return whether tensors are of a network with a neck (channel attention, 1x1 convolution)."""
    return any(name.startswith("neck.") for name in tensors)


def stored_statistics(location: str, name: str) -> Preprocessing | None:
    """Return the statistics in the config.json beside the weights of a network ``name``; None: they are not known.

    Without the file those of CIFAR-100 are returned for a kdcam: network in a folder of the kind that RepDistiller
    names.
    """
    if is_packaged(location):
        return packaged(location).preprocessing
    file = _weight_file(location)
    config_file = file.parent / CONFIG_FILE
    if not is_file(config_file):
        of_repdistiller = name.startswith("kdcam:") and architecture_from_path(file) is not None
        return Preprocessing(*CIFAR100_STATISTICS) if of_repdistiller else None
    with layout_errors(config_file):
        config = read_json(config_file)
        for holder in (config.get("kdcam"), config.get("pretrained_cfg"), config):
            if isinstance(holder, dict) and holder.get("mean") and holder.get("std"):
                return Preprocessing(_numbers(holder["mean"]), _numbers(holder["std"]))
    return None


def learned_other_classes(location: str, label_names: Sequence[str], task: Task) -> str | None:
    """Return what the config.json beside weights tells that is not the data's: classes, their order, or the task.

    None: nothing, or no names of the data are known.
    """
    if is_packaged(location) or not label_names:
        return None
    config_file = _weight_file(location).parent / CONFIG_FILE
    if not is_file(config_file):
        return None
    with layout_errors(config_file):
        config = read_json(config_file)
        theirs = config.get("label_names") or ()
        if theirs and tuple(theirs) != tuple(label_names):
            return "other classes than the data"
        learned = (config.get("kdcam") or {}).get("task", task)
        return None if learned == task else f'a classifier of another task ("{learned}")'


def _weight_file(location: str) -> Path:
    path = expanded(location)
    file = path / MODEL_FILE if is_folder(path) else path
    if not is_file(file):
        raise CheckpointError(f"model.weights: there is no file {file}; {_WAY_OUT}")
    return file


def _numbers(values: list[float] | tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


__all__ = [
    "STARTS_AFRESH",
    "holds_neck",
    "learned_other_classes",
    "load_starting_weights",
    "starting_weights",
    "stored_statistics",
]
