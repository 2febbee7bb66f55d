"""SHA-256 of weights and targets, as results and caches hold them; that of files is worked out without torch.

What is hashed: a text as its bytes in UTF-8, behind their number in digits and a colon; a tensor as the text of its
type and shape (``torch.float32 (64, 3, 3, 3)``), then its bytes, row by row; a network's state, or a file's tensors, in
the order of their names, each as its name and itself.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors

if TYPE_CHECKING:
    from torch import Tensor, nn

_TYPES = {
    "BF16": "torch.bfloat16",
    "BOOL": "torch.bool",
    "F16": "torch.float16",
    "F32": "torch.float32",
    "F64": "torch.float64",
    "I16": "torch.int16",
    "I32": "torch.int32",
    "I64": "torch.int64",
    "I8": "torch.int8",
    "U8": "torch.uint8",
}


def weights_digest(network: "nn.Module", *, without: Sequence[str | None] = ()) -> str:
    """Return the SHA-256 of a network's state: names, types, shapes and bytes.

    ``without``: modules, by name, whose state is left out; None stands for none.
    """
    left_out = tuple(f"{name}." for name in without if name is not None)
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not name.startswith(left_out):
            add_text(digest, name)
            add_tensor(digest, tensor)
    return digest.hexdigest()


def weights_file_digest(file: Path) -> str | None:
    """Return what `weights_digest` gives of a network with a file's weights.

    None where the file is not there or no whole .safetensors file.
    """
    try:
        tensors = dict(safetensors.deserialize(file.read_bytes()))
    except (OSError, safetensors.SafetensorError):
        return None
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        add_text(digest, name)
        kind = _TYPES.get(tensor["dtype"], tensor["dtype"])
        _add_array(digest, kind, tuple(tensor["shape"]), tensor["data"])
    return digest.hexdigest()


def targets_digest(targets: "Tensor") -> str:
    """Return the SHA-256 of labels (N,) or rows (N, K)."""
    digest = hashlib.sha256()
    add_tensor(digest, targets)
    return digest.hexdigest()


def file_digest(file: Path) -> str | None:
    """Return the SHA-256 of a file; None where it cannot be read."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None


def add_tensor(digest: "hashlib._Hash", tensor: "Tensor") -> None:
    """Add type, shape and bytes of a tensor on any device to a digest."""
    import torch  # here: digests of files need none of it

    held = tensor.detach().cpu().contiguous()
    data = held.reshape(-1).view(torch.uint8).numpy().data if held.numel() else b""
    _add_array(digest, str(tensor.dtype), tuple(tensor.shape), data)


def add_text(digest: "hashlib._Hash", text: str) -> None:
    """Add a text to a digest."""
    add_bytes(digest, text.encode())


def add_bytes(digest: "hashlib._Hash", data: bytes) -> None:
    """Add bytes to a digest, behind their number, so that what follows cannot be taken for theirs."""
    digest.update(b"%d:%b" % (len(data), data))


def _add_array(
    digest: "hashlib._Hash", kind: str, shape: tuple[int, ...], data: "bytes | bytearray | memoryview"
) -> None:
    add_text(digest, f"{kind} {shape}")
    digest.update(data)


__all__ = [
    "add_bytes",
    "add_tensor",
    "add_text",
    "file_digest",
    "targets_digest",
    "weights_digest",
    "weights_file_digest",
]
