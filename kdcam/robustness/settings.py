"""What a whole robustness evaluation does: attacks of several budgets, checks, corruptions, calibration, shift.

Read without torch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from kdcam.errors import RecipeError
from kdcam.recipe_errors import explain
from kdcam.robustness.config import RobustnessSettings, parse_fraction, robustness_settings
from kdcam.robustness.corruption_table import CORRUPTIONS, SEVERITIES
from kdcam.settings import Settings
from kdcam.wording import did_you_mean, listed

Severity = Annotated[int, Field(ge=1, le=5)]


def parse_severities(given: object) -> object:
    """Return the severities that a text such as ``1..5`` or ``1,3,5`` stands for; anything else passes.

    Raises ``ValueError`` for another text.
    """
    if not isinstance(given, str):
        return given
    first, dots, last = given.partition("..")
    parts = [first, last] if dots else given.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"found {given!r}; must be severities from 1 to 5, as in 1..5 or 1,3,5")
    numbers = [int(part) for part in parts]
    return tuple(range(numbers[0], numbers[1] + 1)) if dots else tuple(numbers)


Severities = Annotated[tuple[Severity, ...], Field(min_length=1), BeforeValidator(parse_severities)]


class EvaluationSettings(Settings):
    """What is done to each run; `evaluation_settings` makes it of keys and values."""

    budgets: tuple[RobustnessSettings, ...]  # one for each eps above 0, from small to large
    from_zero: bool = False  # the curve against eps begins at the clean images
    attack: bool = True  # False: neither attacks nor checks ("none")
    checks: bool = True  # whether the attacks can be believed
    source: Path | None = None  # a run: the attacks are crafted on it, too
    corruptions: tuple[str, ...] = ()  # names of CORRUPTIONS, or "all"
    severities: Severities = SEVERITIES
    corrupted_set: Path | None = None  # a folder laid out as CIFAR-10-C or ImageNet-C
    calibration: bool = False
    ood: str | None = None  # a folder of pictures, a run (its test part) or a data set's name
    base: Path | None = None  # a run that corruption errors are told relative to

    @model_validator(mode="after")
    def _each_setting_counts(self) -> Self:
        unknown = [name for name in self.corruptions if name not in CORRUPTIONS and name != "all"]
        if unknown:
            raise ValueError(
                f"corruptions: found {unknown[0]!r}{did_you_mean(unknown[0], CORRUPTIONS)}; known: all, "
                f"{listed(CORRUPTIONS)}"
            )
        for key in ("corruptions", "severities"):
            values: Sequence[object] = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: found {listed(values)}; name each once")
        corrupted = self.corruptions or self.corrupted_set
        for key in ("severities", "base"):
            if key in self.model_fields_set and not corrupted:
                raise ValueError(f"{key}: does nothing without corruptions or corrupted_set; add one of them")
        if self.source is not None and not self.attack:
            raise ValueError("source: does nothing without attacks; leave it out or name some attacks")
        return self

    @property
    def n_examples(self) -> int:
        """Images of the test part that are attacked and corrupted, the first ones."""
        return self.budgets[0].n_examples

    @property
    def seed(self) -> int:
        """Of all that is drawn."""
        return self.budgets[0].seed


def evaluation_settings(values: Mapping[str, Any]) -> EvaluationSettings:
    """Return the settings that keys and values ask for.

    Args:
        values: keys of `RobustnessSettings` and of `EvaluationSettings` but ``budgets``. ``eps`` may be several,
            as a list or a text such as ``0,2/255,8/255``; 0 is the clean images. ``attacks`` may be ``none``.

    Raises ``RecipeError`` that names every wrong key.
    """
    own = {key: value for key, value in values.items() if key in _OWN_KEYS}
    shared = {key: value for key, value in values.items() if key not in _OWN_KEYS}
    if tuple(shared.get("attacks", ())) == ("none",):
        own["attack"] = False
        del shared["attacks"]
    budgets: list[dict[str, Any]] = [shared]
    if "eps" in shared:
        amounts = _amounts(shared["eps"])
        own["from_zero"] = 0 in amounts
        budgets = [{**shared, "eps": amount} for amount in sorted(amounts, key=_rank) if amount != 0]
    own["budgets"] = tuple(robustness_settings(budget) for budget in budgets)
    try:
        return EvaluationSettings.model_validate(own)
    except ValidationError as error:
        raise RecipeError("; ".join(explain(error, EvaluationSettings))) from None


_OWN_KEYS = frozenset(EvaluationSettings.model_fields) - {"budgets", "attack", "from_zero"}


def _amounts(given: object) -> list[Any]:
    """Return the budgets that ``eps`` names; texts that are no number stay, to be refused with the other keys."""
    parts = given.split(",") if isinstance(given, str) else given
    found = [_number(part) for part in (parts if isinstance(parts, list | tuple) else (parts,))]
    if len({str(amount) for amount in found}) < len(found):
        raise RecipeError(f"eps: found {listed(found)}; name each once")
    if not any(amount != 0 for amount in found):
        raise RecipeError(f"eps: found {listed(found)}; name at least one above 0, as in 8/255")
    return found


def _number(part: Any) -> Any:
    try:
        return parse_fraction(part)
    except ValueError:
        return part


def _rank(amount: Any) -> float:
    return amount if isinstance(amount, int | float) else float("inf")


__all__ = ["EvaluationSettings", "Severities", "Severity", "evaluation_settings", "parse_severities"]
