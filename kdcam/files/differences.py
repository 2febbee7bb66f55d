"""Where two JSON values differ: a recipe or key that lies in a folder, and the one that is wanted there."""

import json
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """The first place where two values differ; None: not set."""

    place: str  # optimizer.lr, loss[0].name; empty where the whole values differ
    there: Any
    here: Any


def first_difference(there: Any, here: Any, place: str = "") -> Difference | None:
    """Return where two JSON values first differ, in the order of ``there``; None where they are equal.

    Lists of one length are compared item by item, others as wholes.
    """
    pairs: list[tuple[str, Any, Any]]
    if isinstance(there, dict) and isinstance(here, dict):
        prefix = f"{place}." if place else ""
        pairs = [(prefix + name, there.get(name), here.get(name)) for name in {**there, **here}]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = [(f"{place}[{index}]", there[index], here[index]) for index in range(len(here))]
    else:
        return None if there == here else Difference(place, there, here)
    differences = (first_difference(old, new, name) for name, old, new in pairs)
    return next((difference for difference in differences if difference is not None), None)


def value_text(value: Any) -> str:
    """Return one side of a difference in words."""
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


__all__ = ["Difference", "first_difference", "value_text"]
