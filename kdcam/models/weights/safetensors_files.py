"""Named tensors in safetensors files: to bytes, back again, and into a network that they must fit exactly."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
from torch import Tensor, nn

from kdcam.errors import CheckpointError
from kdcam.files.sealed_tensors import SEAL, check_tensors_file, sealed
from kdcam.settings.messages import reason_text

_PICKLES = frozenset({".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl"})


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a sealed safetensors file (`kdcam.files.sealed_tensors`) of the tensors in the default layout.

    Tied ones are written for each name. The same tensors and metadata give the same bytes in every process.
    """
    seen: set[int] = set()
    ready: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        storage = value.untyped_storage().data_ptr()
        ready[name] = value.clone() if storage in seen else value
        seen.add(storage)
    return sealed(safetensors.torch.save(ready, dict(metadata)))


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Return name -> tensor on the CPU for the names that start with ``prefix``, which is cut off.

    Raises:
        CheckpointError: The file is missing, is not a safetensors file or is damaged: a flipped bit is found.
    """
    return read_tensors_file(path, prefix).tensors


class TensorsFile(NamedTuple):
    """What a safetensors file holds."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]  # without the seal
    is_sealed: bool


def read_tensors_file(
    path: Path, prefix: str = "", *, way_out: str = "restore it from a copy or make it again"
) -> TensorsFile:
    """Return the tensors as `read_tensors` does, and what else the file tells; ``way_out`` of a damaged file."""
    refuse_pickles(path)
    is_sealed = check_tensors_file(path, error=CheckpointError, way_out=way_out)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - it is no mapping
            tensors = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
            metadata = {key: value for key, value in (file.metadata() or {}).items() if key != SEAL}
            return TensorsFile(tensors, metadata, is_sealed)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({reason_text(error)})") from error
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); {way_out}") from error


def refuse_pickles(path: Path) -> None:
    """Raise ``CheckpointError`` for a file that can only be read by running what is in it."""
    if path.suffix.lower() in _PICKLES:
        raise CheckpointError(
            f"{path}: a {path.suffix} file is a pickle, which can run any code when it is read; "
            "convert it to .safetensors with safetensors.torch.save_file where it comes from"
        )


def plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without what torch.compile (``_orig_mod.``) and DDP (``module.``) put in names."""
    bare = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    if bare and all(name.startswith("module.") for name in bare):
        return {name.removeprefix("module."): tensor for name, tensor in bare.items()}
    return bare


def load_exactly(network: nn.Module, tensors: Mapping[str, Tensor], *, source: str, what: str) -> None:
    """Copy the tensors into the network in place.

    Args:
        network: Keeps its own precision, device and memory format.
        tensors: One for each entry of the network's state, of the same shape, and no other.
        source: Where the tensors come from, for the message.
        what: What the network is, for the message.

    Raises:
        CheckpointError: They do not fit; the message names the first entry that does not.
    """
    mismatches = _mismatches(network.state_dict(), plain_names(tensors))
    if mismatches:
        more = f" (and {len(mismatches) - 1} more)" if len(mismatches) > 1 else ""
        raise CheckpointError(
            f"{source}: does not fit {what}: {mismatches[0]}{more}; use the weights of that network, or the "
            "network that they were made with"
        )
    network.load_state_dict(plain_names(tensors))


def _mismatches(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    missing = [f"'{name}' is missing" for name in wanted if name not in found]
    shapes = [
        f"'{name}' is {_shape(found[name])}, expected {_shape(tensor)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    unexpected = [f"'{name}' is not part of it" for name in found if name not in wanted]
    return shapes + missing + unexpected


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


__all__ = [
    "TensorsFile",
    "load_exactly",
    "plain_names",
    "read_tensors",
    "read_tensors_file",
    "refuse_pickles",
    "tensor_bytes",
]
