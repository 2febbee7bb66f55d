"""The names of a comparison's rows: short labels for its table, and names of folders that no other row changes."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from kdcam.files.paths import is_file, resolved
from kdcam.recipe.recipe_files import recipe_stem

_LONGEST = 60  # characters, of up to 4 bytes each; a folder takes 255 bytes, and its seed is added


def source_labels(sources: Iterable[str]) -> dict[str, str]:
    """Return a short name for each recipe: its stem, with the folders before it that tell equal stems apart."""
    parts = {source: Path(source.removesuffix(".toml")).parts for source in sources}
    deepest = max(1, *map(len, parts.values()))
    for depth in range(1, deepest + 1):
        labels = {source: "-".join(of_source[-depth:]) for source, of_source in parts.items()}
        if len(set(labels.values())) == len(labels):
            break
    return labels


def label_of(source_label: str, put_in: str | None, settings: Sequence[str], *, several: bool) -> str:
    """Return a row's label: the recipe where there are several (or nothing else), method or losses, settings."""
    words = [put_in, *map(_short, settings)]
    said = [word for word in words if word is not None]
    return "-".join([source_label, *said] if several or not said else said)


def folder_of(source: str, put_in: str | None, settings: Sequence[str]) -> str:
    """Return what the folders of a row's runs are called, whatever the other rows.

    It is recipe, method or losses, and settings.

    The settings are sorted, so that the order of flags does not count.
    """
    return label_of(recipe_stem(source), put_in, sorted(settings), several=True)


def source_identity(source: str) -> str:
    """Return what tells a recipe from another: a file's path however it is spelled, a shipped one's name."""
    path = Path(source)
    return str(resolved(path)) if path.suffix == ".toml" or is_file(path) else source


def unique_names(labels: Sequence[str], identities: Sequence[str]) -> list[str]:
    """Return a name that is safe for a folder for each label; only long and equal ones get a digest.

    That of equal ones is of their row, that of long ones of the whole label: so it does not depend on the other rows,
    and that of a long one not on where its recipe lies.
    """
    names = [_safe(label) for label in labels]
    counts = Counter(name.casefold() for name in names)  # some file systems do not tell A from a
    return [
        _marked(name, identity)
        if counts[name.casefold()] > 1
        else _marked(name, label)
        if len(name) > _LONGEST
        else name
        for name, label, identity in zip(names, labels, identities, strict=True)
    ]


def _marked(name: str, of: str) -> str:
    return f"{name[: _LONGEST - 9]}-{hashlib.sha256(of.encode()).hexdigest()[:8]}"


def _short(setting: str) -> str:
    """Return a setting with the last two words of its key: cam.weight=3 for loss.cam.weight=3."""
    key, _, value = setting.partition("=")
    return f"{'.'.join(key.strip().split('.')[-2:])}={value.strip()}"


def _safe(label: str) -> str:
    parts = [_plain(part) for part in re.split(r"\[\s*\]", label)]
    return "[]".join(parts).strip("._-") or "row"  # an empty list would else leave nothing to see


def _plain(text: str) -> str:
    return re.sub(r"[^\w.=+-]+", "_", re.sub(r"[\"'\s\[\]{}]", "", text))


__all__ = ["folder_of", "label_of", "source_identity", "source_labels", "unique_names"]
