"""Where a network's weights are: what a user's text for them is, and the names of their files; read without torch."""

from pathlib import Path
from typing import Literal

from kdcam.files.paths import exists, expanded, is_folder

PACKAGE_PREFIX = "package:"
"""Before the name of a Python package whose weights are started from."""

FOREIGN_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar")
"""How files of torch.save end."""

WEIGHTS_SUFFIXES = (".safetensors", *FOREIGN_SUFFIXES)
"""How files of weights end."""

MODEL_FILE = "model.safetensors"
"""The weights in a folder of one network, a run's or one in timm's ``local-dir:`` layout."""

CONFIG_FILE = "config.json"
"""What builds the network again, beside its weights."""

LocationKind = Literal["file", "folder", "missing", "name", "package"]


def location_kind(location: str | Path) -> LocationKind:
    """Return what the location of weights is: a file, a folder, a Python package, a network's name, a path to nothing.

    Args:
        location: as a user wrote it. What begins with ``package:`` is a package, installed or not; of the rest what
            lies there comes first. What does not is ``missing`` where it is spelled as a path (with a slash, or as a
            file of weights ends), else a ``name``, whether there is such a network or not.
    """
    text = str(location)
    if text.startswith(PACKAGE_PREFIX):
        return "package"
    path = expanded(text)
    if exists(path):
        return "folder" if is_folder(path) else "file"
    return "missing" if "/" in text or text.endswith(WEIGHTS_SUFFIXES) else "name"


__all__ = [
    "CONFIG_FILE",
    "FOREIGN_SUFFIXES",
    "MODEL_FILE",
    "PACKAGE_PREFIX",
    "WEIGHTS_SUFFIXES",
    "LocationKind",
    "location_kind",
]
