"""An attack's budget: norm, eps, and the types and usual values of its settings; read without torch."""

import math
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field

from kdcam.settings.validation import Positive

Norm = Literal["linf", "l2"]


class Budget(NamedTuple):
    """What the attacks may change, and the seed of their random starts."""

    norm: Norm
    eps: float  # [0, 1] pixel units
    seed: int = 0


def at_budget_text(budget: Budget) -> str:
    """Return a budget in words, as checks name theirs."""
    return f"at {budget.norm} eps {budget.eps:.3g}"


# The budgets of RobustBench's CIFAR boards.
_USUAL_EPS = {"linf": 8 / 255, "l2": 0.5}


def parse_fraction(text: str | float) -> float:
    """Return the number that a text such as ``8/255`` or ``0.03`` stands for; numbers pass.

    Raises ``ValueError`` for anything else, such as a number too large for a float.
    """
    if not isinstance(text, str):
        return text
    above, slash, below = text.replace(" ", "").partition("/")
    try:
        value = float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"found {text!r}; must be a number or a fraction such as 8/255") from None
    if not math.isfinite(value):
        raise ValueError(f"found {text!r}, which is not finite; must be a number or a fraction such as 8/255")
    return value


def usual_eps(data: dict[str, Any]) -> float:
    """Return the eps taken where none is given, from the settings that stand before it."""
    return _USUAL_EPS[data.get("norm", "linf")]


def usual_alpha(data: dict[str, Any]) -> float:
    """Return the length of a step taken where none is given: a quarter of eps."""
    eps: float = data.get("eps", _USUAL_EPS["linf"])
    return eps / 4


Amount = Annotated[Positive, BeforeValidator(parse_fraction)]
"""A length in [0, 1] pixel units, as a number or a text such as ``8/255``."""
Count = Annotated[int, Field(ge=1)]
"""A whole number of at least 1."""
Seed = Annotated[int, Field(ge=0)]
"""A seed of random choices."""


__all__ = [
    "Amount",
    "Budget",
    "Count",
    "Norm",
    "Seed",
    "at_budget_text",
    "parse_fraction",
    "usual_alpha",
    "usual_eps",
]
