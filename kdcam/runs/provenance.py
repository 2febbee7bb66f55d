"""What a network has learned from: its own classes, and those of the networks that it was started from or taught by."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdcam.errors import CheckpointError
from kdcam.files.json_files import read_json
from kdcam.files.paths import expanded, is_file, is_folder, resolved
from kdcam.files.weight_location import CONFIG_FILE
from kdcam.runs.run_files import RECIPE_FILE
from kdcam.settings.messages import first_few, listed


class Ancestor(NamedTuple):
    """A network that has left something in another one, or this one itself."""

    place: str  # as it was named: a run folder, a file, a published network
    label_names: tuple[str, ...]  # the classes that it was trained on; empty: they are not known


class Provenance(NamedTuple):
    """A network and all that it goes back to."""

    itself: Ancestor
    others: tuple[Ancestor, ...]  # nearest first

    @property
    def unknown(self) -> tuple[str, ...]:
        """The places of the networks whose classes are not known."""
        return tuple(one.place for one in (self.itself, *self.others) if not one.label_names)

    def that_saw(self, names: Sequence[str]) -> Ancestor | None:
        """Return the first network that was trained on one of the classes ``names``, with just these of its classes."""
        for one in (self.itself, *self.others):
            seen = set(one.label_names).intersection(names)
            if seen:
                return Ancestor(one.place, tuple(name for name in names if name in seen))
        return None

    def sentence(self, seen: Ancestor) -> str:
        """Return how a network of these saw some classes: ``runs/a was trained on 'x', 'y'``."""
        what = f"was trained on {first_few(map(repr, seen.label_names))}"
        place = self.itself.place
        return (
            f"{place} {what}" if seen.place == place else f"{place} learned from {seen.place}, which {what}"
        )

    def doubt(self) -> str | None:
        """Return what cannot be told of the classes that it has seen, in a sentence; None: all are known."""
        if not self.unknown:
            return None
        place, unknown = self.itself.place, listed(self.unknown)
        whose = (
            f"{place}: its classes"
            if self.unknown == (place,)
            else f"{place} learned from {unknown}: whose classes"
        )
        return f"{whose} are not known, so it may have seen those that it is asked about"


def provenance_of(path: str | Path) -> Provenance:
    """Return what the network at ``path``, a run folder or a file, has learned from.

    The recipe.json of a run tells what it was started from (init.checkpoint, model.weights, published weights) and its
    teachers; theirs are followed in turn. Classes are told by config.json. Files that are gone or of another kind count
    as networks whose classes are not known. Paths are taken from the working folder on, as recipes do.
    """
    found: dict[str, Ancestor] = {}
    waiting = [str(path)]
    while waiting:
        place = waiting.pop(0)
        folder = _folder(place)
        key = place if folder is None else str(resolved(folder))
        if key in found:
            continue
        found[key] = Ancestor(place, () if folder is None else _label_names(folder))
        if folder is not None:
            waiting += _checkpoints(folder)
    first, *others = found.values()
    return Provenance(first, tuple(others))


def _folder(place: str) -> Path | None:
    """Return the folder of a network that kdcam reads with its config.json; None where it is no such place."""
    path = expanded(place)
    if is_folder(path):
        return path
    return path.parent if is_file(path) and path.suffix == ".safetensors" else None


def _label_names(folder: Path) -> tuple[str, ...]:
    names = _read(folder / CONFIG_FILE).get("label_names")
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _checkpoints(folder: Path) -> Iterator[str]:
    recipe = _read(folder / RECIPE_FILE).get("recipe")
    if not isinstance(recipe, Mapping):
        return
    teachers = recipe.get("teacher") or []
    for table in (recipe.get("init"), *([teachers] if isinstance(teachers, Mapping) else teachers)):
        if isinstance(table, Mapping) and table.get("checkpoint"):
            yield str(table["checkpoint"])
    model = recipe.get("model")
    if isinstance(model, Mapping):
        if model.get("weights"):
            yield str(model["weights"])
        elif model.get("pretrained"):
            yield str(model.get("name"))


def _read(file: Path) -> Mapping[str, Any]:
    try:
        return read_json(file)
    except CheckpointError:
        return {}


__all__ = ["Ancestor", "Provenance", "provenance_of"]
