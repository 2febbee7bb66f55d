"""The digest of a run's weights, found without torch."""

import hashlib
from pathlib import Path

import safetensors

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


def weights_file_digest(file: Path) -> str | None:
    """Return what `kdcam.teacher_cache.fingerprints.weights_digest` gives of a network with a file's weights.

    None where the file is not there or no whole .safetensors file.
    """
    try:
        tensors = dict(safetensors.deserialize(file.read_bytes()))
    except (OSError, safetensors.SafetensorError):
        return None
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        kind = _TYPES.get(tensor["dtype"], tensor["dtype"])
        for text in (name, f"{kind} {tuple(tensor['shape'])}"):
            data = text.encode()
            digest.update(b"%d:%b" % (len(data), data))
        digest.update(tensor["data"])
    return digest.hexdigest()


__all__ = ["weights_file_digest"]
