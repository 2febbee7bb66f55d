"""Where kdcam keeps what it can fetch or make again."""

import os
from pathlib import Path


def cache_home() -> Path:
    """Return kdcam's cache folder: below XDG_CACHE_HOME where it is set, else below ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "kdcam"


__all__ = ["cache_home"]
