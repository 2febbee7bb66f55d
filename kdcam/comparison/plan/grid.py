"""What the flags of a comparison say: seeds as ``0..4``, and settings with several values as ``key=v1,v2``."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product

from kdcam.errors import RecipeError
from kdcam.settings.messages import listed

_DIGITS = 19  # the most that a seed below 2**63 has
_LONGEST = 60  # characters of a flag's text that an error repeats
_OPENING, _CLOSING, _QUOTES = "[{", "]}", "\"'"
MOST_SEEDS = 1000


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of ``0..4`` (both ends belong to it), ``0,2,5`` or ``3``, in the order given, each once.

    Raises ``RecipeError`` for anything else, and for more than `MOST_SEEDS`.
    """
    seeds: dict[int, None] = {}
    for item in text.split(","):
        first, dots, last = (part.strip() for part in item.partition(".."))
        ends = (first, last) if dots else (first, first)
        if not all(map(_is_seed, ends)) or int(ends[0]) > int(ends[1]):
            raise RecipeError(
                f"seeds: found {_quoted(text)}; must read like 0..4, 0,2,5 or 3 (0 to 2**63 - 1, rising)"
            )
        if int(ends[1]) - int(ends[0]) >= MOST_SEEDS or len(seeds) >= MOST_SEEDS:
            raise RecipeError(f"seeds: found {_quoted(text)}, more than {MOST_SEEDS}; name fewer")
        seeds |= dict.fromkeys(range(int(ends[0]), int(ends[1]) + 1))
    return tuple(seeds)


def checked_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """Return seeds, each once; ``RecipeError`` where there is none, or one outside of 0 to 2**63 - 1."""
    wrong = [seed for seed in seeds if not 0 <= seed < 2**63]
    if wrong or not seeds:
        raise RecipeError(f"seeds: found {listed(wrong)}; name at least one, each from 0 to 2**63 - 1")
    return tuple(dict.fromkeys(seeds))


def _is_seed(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def grid_settings(grid: Sequence[str], sets: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Return every combination of a grid's values as settings ``key=value``; the last key varies fastest.

    Args:
        grid: ``key=v1,v2,...``; a comma in brackets, braces or quotes belongs to its value.
        sets: ``key=value`` that all rows share.

    Raises ``RecipeError`` for a text that is no such assignment, and for a key that is said twice.
    """
    axes = [_axis(text) for text in grid]
    keys = Counter(key_of(text) for text in (*grid, *sets))
    for text in grid:
        if keys[key_of(text)] > 1:
            raise RecipeError(
                f"--grid {text!r}: {key_of(text)} is said more than once; give its values in one --grid, and leave it "
                "out of --set"
            )
    if "seed" in keys:
        raise RecipeError("seed: is what --seeds says, as in --seeds 0..4; leave it out of --grid and --set")
    return list(product(*axes))


def parse_names(text: str, *, flag: str) -> list[str]:
    """Return the names between the commas of a flag's text; ``RecipeError`` where there is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise RecipeError(f"{flag}: found {text!r}; must name at least one, or leave the flag out")
    return names


def key_of(text: str) -> str:
    """Return the key of an assignment ``key=value``."""
    return text.partition("=")[0].strip()


def with_teacher_flag(text: str, teachers: Sequence[str]) -> str:
    """Return an error's text with --teacher in the place of the key that the flag ``--teacher`` sets."""
    if not teachers:
        return text
    said_already = re.sub(r"(--teacher \S+) \(teacher\.checkpoint\)", r"\1", text)
    return said_already.replace("teacher.checkpoint", "--teacher")


def _axis(text: str) -> list[str]:
    key, equals, values = text.partition("=")
    found = [value.strip() for value in _split(values)]
    if not equals or not key.strip() or not all(found):
        raise RecipeError(
            f"--grid {text!r}: must read key=value,value,..., as in --grid data.noise.rate=0,0.2,0.4"
        )
    if len(set(found)) < len(found):
        twice = [value for value, count in Counter(found).items() if count > 1]
        raise RecipeError(f"--grid {text!r}: has {listed(twice)} twice; name each value once")
    return [f"{key.strip()}={value}" for value in found]


def _split(values: str) -> Iterator[str]:
    """Yield the parts between the commas that stand outside of brackets, braces and quotes."""
    depth, quote, start = 0, "", 0
    for index, sign in enumerate(values):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in _QUOTES:
            quote = sign
        elif sign in _OPENING:
            depth += 1
        elif sign in _CLOSING:
            depth -= 1
        elif sign == "," and depth == 0:
            yield values[start:index]
            start = index + 1
    yield values[start:]


__all__ = [
    "MOST_SEEDS",
    "checked_seeds",
    "grid_settings",
    "key_of",
    "parse_names",
    "parse_seeds",
    "with_teacher_flag",
]
