"""Weights in files that torch.save made: checkpoints of RepDistiller, mdistiller, torchdistill and others.

Such a file is a pickle, which names functions and classes to call. torch's restricted reader
(``weights_only=True``) knows those of tensors; what else training scripts keep beside the tensors (their
arguments, numbers of numpy, paths) is read as an empty stand-in, and their tables and queues as plain ones, so that
nothing of it is built or run. A file that names anything else is refused.
"""

import pickletools
import re
import tarfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import torch
from torch import Tensor

from kdcam.errors import CheckpointError
from kdcam.files.paths import is_file
from kdcam.files.weight_location import FOREIGN_SUFFIXES
from kdcam.models.networks import CIFAR_NETWORKS
from kdcam.models.weights.safetensors_files import plain_names
from kdcam.settings.messages import listed, one_line, reason_text

CIFAR100_STATISTICS = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
"""Mean and deviation that the networks of HobbitLong/RepDistiller and megvii-research/mdistiller were trained with."""

_STARTS = (b"PK\x03\x04", b"\x80\x02")  # a zip archive; a pickle as torch wrote it until version 1.5
# In a file of torch before 1.6: a number, the version, the machine, the content, the storages' keys.
_OLD_PICKLES = 5
_LONGEST_NAME = 300  # letters of a function's or class's name with its module
_AVERAGES = ("state_dict_ema", "model_ema")

_HOLDERS = (*_AVERAGES, "state_dict", "model", "net", "model_state_dict")
"""Where a state dict is looked for. timm, too, takes a moving average before the plain weights beside it."""

_WRAPPERS = ("module.", "_orig_mod.")  # what `plain_names` removes
# RepDistiller's and mdistiller's names for networks that kdcam spells otherwise.
_OTHER_SPELLINGS = {
    "ResNet50": "resnet50",
    "MobileNetV2": "mobilenetv2",
    "mobile_half": "mobilenetv2",
    "ShuffleV1": "shufflenetv1",
    "ShuffleV2": "shufflenetv2",
}
_LEFT_OUT = (
    "argparse.Namespace",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.Path",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
    "numpy.dtype",
    "numpy.ndarray",
    *(
        f"numpy.{core}.multiarray.{function}"
        for core in ("core", "_core")
        for function in ("scalar", "_reconstruct")
    ),
    # what a defaultdict makes its entries with
    *(f"builtins.{kind}" for kind in ("dict", "float", "int", "list", "str", "tuple")),
)


class _LeftOut:
    """Stands where a file has something that is no tensor; it takes whatever it is given and keeps nothing."""

    def __init__(self, *args: object) -> None:
        del args

    def __setstate__(self, state: object) -> None:
        del state


def _plain_table(*args: object) -> dict[object, object]:
    """Stands for ``defaultdict``: torch's reader fills plain tables alone."""
    del args
    return {}


def _plain_list(*args: object) -> list[object]:
    """Stands for ``deque``: torch's reader fills plain lists alone."""
    del args
    return []


_STAND_INS = (
    *((_LeftOut, name) for name in _LEFT_OUT),
    (_plain_table, "collections.defaultdict"),
    (_plain_list, "collections.deque"),
)


def is_foreign(path: Path) -> bool:
    """Return whether a file is one of torch.save: by its ending, or of a file without one by its first bytes."""
    if path.suffix:
        return path.suffix.lower() in FOREIGN_SUFFIXES
    if not is_file(path):
        return False
    with path.open("rb") as file:
        return file.read(4).startswith(_STARTS)


class ForeignWeights(NamedTuple):
    """The state dict of a file of torch.save."""

    tensors: dict[str, Tensor]
    note: str | None
    """Which of several tables they are, and what was removed from their names; None: there is no more."""


# Why a pickle is read by stand-ins: docs/decisions/013.
def read_foreign(path: Path) -> ForeignWeights:
    """Return the state dict in a file of torch.save, on the CPU, its names without ``module.`` and ``_orig_mod.``.

    It is looked for under "state_dict_ema" and "model_ema" (timm's and torchvision's moving averages), "state_dict"
    (timm, lightning), "model" (RepDistiller, mdistiller, torchdistill), "net" and "model_state_dict", then at the top.
    Nothing in the file is run (see the module's docstring).

    Raises ``CheckpointError`` where the file asks for more than tensors, is damaged, is a packed zip archive or has no
    state dict.
    """
    content = _read(path)
    tables = _tables(content)
    if not tables:
        raise CheckpointError(
            f"{path}: holds no state dict, a table of named tensors, at its top or under {', '.join(_HOLDERS)}; "
            f"found {_contents(content)}; save network.state_dict() where it comes from"
        )
    chosen, found = next(iter(tables.items()))
    for name, tensor in found.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise CheckpointError(
                f"{path}: '{name}' is no ordinary tensor (sparse, quantised or without values); save the "
                "network's plain weights where it comes from"
            )
    tensors = plain_names({name: tensor.detach() for name, tensor in found.items()})
    notes = []
    if len(tables) > 1 or chosen in _AVERAGES:
        average = ", a moving average" if chosen in _AVERAGES else ""
        others = f", not from {listed([key for key in tables if key != chosen])}" if len(tables) > 1 else ""
        notes.append(f"read from its table {chosen}{average}{others}")
    removed = [
        repr(part) for part in _WRAPPERS if any(part in name for name in found.keys() - tensors.keys())
    ]
    if removed:
        notes.append(f"names without {listed(removed)}")
    return ForeignWeights(tensors, "; ".join(notes) or None)


def _tables(content: object) -> dict[str, Mapping[str, Tensor]]:
    """Return the state dicts of a file by their keys, the one to take first; under "" that at the top."""
    if not isinstance(content, Mapping):
        return {}
    held = {key: content[key] for key in _HOLDERS if key in content and _is_state_dict(content[key])}
    return held or ({"": content} if _is_state_dict(content) else {})


def _is_state_dict(content: object) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    )


def _contents(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    names = [str(name) for name in content]
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") if names else "nothing"


def _read(path: Path) -> object:
    try:
        _check_bounds(path)
        with _stand_ins_alone(), warnings.catch_warnings():
            # torch's, of versions of pickles, before it refuses a damaged one
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({reason_text(error)})") from error
    except Exception as error:  # a damaged pickle leads torch to raise whatever its bytes ask for
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None:
            raise CheckpointError(
                f"{path}: cannot be read as a pickle of torch.save with tensors only ({_first_sentence(error)}); fetch "
                "or make it again, or convert it to .safetensors with safetensors.torch.save_file where it comes from"
            ) from error
        raise CheckpointError(
            f"{path}: asks for {one_line(wanted[1])} when it is read, which is more than tensors and could run any "
            "code, so nothing of it was read; save network.state_dict() alone, or convert it to .safetensors with "
            "safetensors.torch.save_file where it comes from"
        ) from error


def _check_bounds(path: Path) -> None:
    """Raise ``CheckpointError`` for what torch's reader has no bounds for: packed archives, names without an end."""
    if tarfile.is_tarfile(path):  # torch refuses these, which it wrote before 0.2
        return
    with path.open("rb") as file:
        if file.read(4) != _STARTS[0]:
            file.seek(0)
            for _ in range(_OLD_PICKLES):
                _refuse_long_names(file, path)
            return
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > size:
            raise CheckpointError(
                f"{path}: unpacks to {unpacked:,} bytes and has {size:,}, but torch.save packs nothing, and nothing is "
                "unpacked here; load and save it again with torch, or convert it to .safetensors with "
                "safetensors.torch.save_file where it comes from"
            )
        for member in members:
            if member.filename.endswith(".pkl"):
                with archive.open(member) as pickled:
                    _refuse_long_names(pickled, path)


def _refuse_long_names(file: IO[bytes], path: Path) -> None:
    """Read one pickle's operations, running none; torch's search for names takes hours on one of a hundred thousand
    letters."""
    for operation, argument, _ in pickletools.genops(file):
        if operation.name in ("GLOBAL", "INST") and len(str(argument)) > _LONGEST_NAME:
            raise CheckpointError(
                f"{path}: asks for a name of {len(str(argument)):,} letters when it is read, so it is damaged; nothing "
                "of it was read, fetch or make it again"
            )


@contextmanager
def _stand_ins_alone() -> Iterator[None]:
    """Let torch's restricted reader know the stand-ins, and nothing that other libraries allowed in this process."""
    others = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(list(_STAND_INS))
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(others)


def _first_sentence(error: Exception) -> str:
    text = str(error).strip().rpartition("WeightsUnpickler error: ")[2]
    sentence = text.partition("\n")[0].partition(". ")[0][:_LONGEST_NAME]
    return f"{type(error).__name__}: {sentence}".rstrip(" .:")


def architecture_from_path(path: str | Path) -> str | None:
    """Return the network that RepDistiller's and mdistiller's folders name, as "kdcam:resnet32x4"; None: unknown.

    ``resnet32x4_vanilla/ckpt_epoch_240.pth``, ``wrn_40_2_cifar100_lr_0.05.../wrn_40_2_last.pth``, and of a
    distilled student ``S:resnet8x4_T:.../resnet8x4_best.pth``: what stands before the first underscore that is
    not part of a network's name, spelt as these projects do ("ResNet50"; kdcam's own spelling may be ImageNet's).
    """
    folder = Path(path).parent.name.removeprefix("S:")
    spellings = {
        name: name for name in CIFAR_NETWORKS if name not in _OTHER_SPELLINGS.values()
    } | _OTHER_SPELLINGS
    fitting = [one for one in spellings if folder == one or folder.startswith(f"{one}_")]
    return f"kdcam:{spellings[max(fitting, key=len)]}" if fitting else None


__all__ = ["CIFAR100_STATISTICS", "ForeignWeights", "architecture_from_path", "is_foreign", "read_foreign"]
