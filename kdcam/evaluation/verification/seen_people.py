"""Whether a network has seen the people whose pictures it is asked about."""

from pathlib import Path

from kdcam.data.identity_folder import similar_names
from kdcam.data.pairs import Pairs
from kdcam.errors import DataError
from kdcam.runs.provenance import Provenance, provenance_of
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import listed

_PEOPLE_NAMED = 3  # people named in a sentence


def seen_people(path: Path, pairs: Pairs, *, allowed: bool, progress: Progress) -> tuple[str, ...]:
    """Return the people of the pairs that a network was trained on, or what it was started from or taught by.

    What cannot be told is said to the watcher. Raises ``DataError`` where there are such people and ``allowed`` is not
    set.
    """
    origins = provenance_of(path)
    saw = origins.that_saw(pairs.people)
    if saw is not None:
        text = f"{origins.sentence(saw)}, of {len(pairs.people)} people in {pairs.file}"
        if not allowed:
            raise DataError(
                f"{text}, so it has seen such pictures; take pairs of other people (kdcam make-pairs --not-in {path}), "
                "or allow this (--allow-seen)"
            )
        progress.warning(f"{text}: its numbers are not those of new people")
    known = _known_people(origins)
    _tell_doubts(path, pairs, origins, known, progress)
    return tuple(name for name in pairs.people if name in known)


def _known_people(origins: Provenance) -> frozenset[str]:
    return frozenset(name for one in (origins.itself, *origins.others) for name in one.label_names)


def _tell_doubts(
    path: Path, pairs: Pairs, origins: Provenance, known: frozenset[str], progress: Progress
) -> None:
    similar = similar_names([name for name in pairs.people if name not in known], known)
    if similar:
        named = listed(
            f"{name!r} (its class {other!r})" for name, other in list(similar.items())[:_PEOPLE_NAMED]
        )
        progress.warning(
            f"{path}: {len(similar)} people of {pairs.file} are called nearly as its classes are: {named}; if they are "
            "the same, its numbers are not those of new people"
        )
    nameless = not origins.itself.label_names
    if nameless or pairs.unnamed:
        of = "its classes" if nameless else f"{pairs.unnamed} pictures of the pairs"
        progress.message(
            f"{path}: whether it was trained on people of the pairs is not known: {of} have no names"
        )
    doubt = None if nameless else origins.doubt()
    if doubt is not None:
        progress.warning(doubt)


__all__ = ["seen_people"]
