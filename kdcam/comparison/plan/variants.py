"""What the rows of a comparison are before its grid: recipes, with methods or losses put into the first."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kdcam.comparison.plan.row_recipes import ALONE
from kdcam.errors import RecipeError
from kdcam.losses import LOSSES
from kdcam.recipe.methods import method_names
from kdcam.settings.messages import did_you_mean, listed

_METHODS_ONLY = (ALONE, *(name for name in method_names() if name not in LOSSES))  # names that are no losses


class Variant(NamedTuple):
    """A recipe as it is, with a method, or with losses."""

    source: str  # the recipe as it was named
    method: str | None = None
    losses: str | None = None  # an entry of --losses: "cam", "focal+cam"

    @property
    def word(self) -> str | None:
        """What is put into the recipe."""
        return self.method or self.losses

    def __str__(self) -> str:
        return self.source if self.word is None else f"{self.source} with {self.word}"


def variants_of(
    recipes: Sequence[str],
    *,
    base: str | None = None,
    methods: Sequence[str] = (),
    losses: Sequence[str] = (),
    keys: Sequence[str] = (),
) -> list[Variant]:
    """Return the variants in the order of their rows: the base, its methods, its losses, the other recipes.

    ``keys`` are those of grid and settings. Raises ``RecipeError`` where a name is unknown, where it is open which
    recipe methods and losses go into, and where a key says what they say.
    """
    sources = list(dict.fromkeys(recipes if base is None else (base, *recipes)))
    if not sources:
        raise RecipeError("recipes: found none; name at least one, or --base RECIPE")
    first = sources[0]
    _check_methods(methods)
    put_in = [
        *(Variant(first, method) for method in dict.fromkeys(methods)),
        *(Variant(first, losses=entry) for entry in _checked_entries(losses)),
    ]
    problem = next(_contradictions(methods, losses, keys), None)
    if problem is not None:
        raise RecipeError(problem)
    if put_in and base is None and len(sources) > 1:
        flag = "methods" if methods else "losses"
        raise RecipeError(
            f"{flag}: found {listed(methods or losses)} with {len(sources)} recipes; name the one that they are put "
            "into with --base RECIPE"
        )
    own = [] if put_in and base is None else [Variant(first)]
    return [*own, *put_in, *map(Variant, sources[1:])]


def _check_methods(methods: Sequence[str]) -> None:
    known = [ALONE, *method_names()]
    unknown = [method for method in methods if method not in known]
    if unknown:
        guess = did_you_mean(unknown[0], known)
        if unknown[0] in LOSSES:
            guess = f"; it is a loss without a teacher: --losses {unknown[0]}"
        raise RecipeError(f"methods: found {listed(map(repr, unknown))}{guess}; allowed: {listed(known)}")


def _checked_entries(entries: Sequence[str]) -> list[str]:
    """Return entries ``NAME`` or ``NAME+NAME`` without spaces, each once.

    Raises ``RecipeError`` for an unknown name, for a loss that an entry names twice, and for a loss that reads a
    teacher by itself: as a row it is a method, with the loss on the labels and published weights.
    """
    gaps = [entry for entry in entries if not all(_entry_names(entry))]
    if gaps:
        raise RecipeError(
            f"losses: found {listed(map(repr, gaps))}; must read NAME or NAME+NAME, as in focal+cam"
        )
    spelled = ["+".join(_entry_names(entry)) for entry in entries]
    names = dict.fromkeys(name for entry in spelled for name in _entry_names(entry))
    unknown = [name for name in names if name not in LOSSES and name not in _METHODS_ONLY]
    if unknown:
        guess = did_you_mean(unknown[0], LOSSES)
        raise RecipeError(f"losses: found {listed(map(repr, unknown))}{guess}; allowed: {listed(LOSSES)}")
    problems = [problem for entry in dict.fromkeys(spelled) for problem in _entry_problems(entry)]
    if problems:
        raise RecipeError("\n  ".join(problems))
    return list(dict.fromkeys(spelled))


def _entry_problems(entry: str) -> Iterator[str]:
    names = _entry_names(entry)
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        yield f"losses: found {entry!r}, which has {listed(twice)} twice; name each loss once"
    for name in names:
        if name in _METHODS_ONLY:
            yield f"losses: found {name!r}, which is a method; name it in --methods {name}"
    if entry in LOSSES and LOSSES[entry].reads_teacher():
        yield (
            f"losses: found {entry!r}, which distils from a teacher; name it in --methods {entry}, which brings the "
            f"loss on the labels and published weights, or name all losses of the row, as in cross_entropy+{entry}"
        )


def _entry_names(entry: str) -> list[str]:
    return [name.strip() for name in entry.split("+")]


def _contradictions(methods: Sequence[str], losses: Sequence[str], keys: Sequence[str]) -> Iterator[str]:
    if methods and "method" in keys:
        yield "method: --methods says which ones there are; leave method out of --grid and --set"
    if losses and "method" in keys:
        yield "method: is not to change beside --losses; leave it out of --grid and --set, and name it in --methods"
    if losses and "loss" in keys:
        yield (
            "loss: --losses says which ones there are; leave loss out of --grid and --set, or change a key of one, as "
            "in loss.cam.weight=3"
        )


__all__ = ["Variant", "variants_of"]
