"""What a whole robustness evaluation does: attacks of several budgets, checks, corruptions, calibration, shift.

Read without torch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from kdcam.attacks.budget import Seed, parse_fraction
from kdcam.attacks.config import BudgetSettings, budget_settings
from kdcam.corruptions.severities import CORRUPTIONS, SEVERITIES
from kdcam.errors import RecipeError
from kdcam.settings.frozen_settings import Settings
from kdcam.settings.messages import did_you_mean, listed
from kdcam.settings.recipe_errors import validation_messages

Severity = Annotated[int, Field(ge=1, le=5)]


def parse_severities(given: object) -> object:
    """Return the severities that a text such as ``1..5`` or ``1,3,5`` stands for; anything else passes.

    Raises ``ValueError`` for another text.
    """
    if isinstance(given, range):
        return tuple(given[: SEVERITIES[-1] + 1])  # one too many is refused all the same
    if not isinstance(given, str):
        return given
    first, dots, last = given.partition("..")
    parts = [first, last] if dots else given.split(",")
    # A length of one: a long number could not be turned into one, and a long range would fill the memory.
    if not all(part.strip().isdecimal() and len(part.strip()) == 1 for part in parts):
        raise ValueError(f"found {given!r}; must be severities from 1 to 5, as in 1..5 or 1,3,5")
    numbers = [int(part) for part in parts]
    return tuple(range(numbers[0], numbers[1] + 1)) if dots else tuple(numbers)


Severities = Annotated[tuple[Severity, ...], Field(min_length=1), BeforeValidator(parse_severities)]


class RobustnessEvaluationSettings(Settings):
    """What is done to each run; `evaluation_settings` makes it of keys and values."""

    budgets: tuple[BudgetSettings, ...]  # one for each eps above 0, from small to large
    from_zero: bool = False  # the curve against eps begins at the clean images
    attack: bool = True  # False: neither attacks nor checks ("none")
    checks: bool = True  # whether the attacks can be believed
    source: Path | None = None  # a run: the attacks are crafted on it, too
    corruptions: tuple[str, ...] = ()  # names of CORRUPTIONS, or "all"
    severities: Severities = SEVERITIES
    corruption_seed: Seed | None = None  # where the attacks draw nothing; None: theirs
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
        for key in ("source", "checks"):
            if key in self.model_fields_set and not self.attack:
                raise ValueError(f"{key}: does nothing without attacks; leave it out or name some attacks")
        return self

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections of robustness.json that are asked for; label noise is told of whenever a run was given some."""
        wanted = {
            "attacks": self.attack,
            "checks": self.attack and self.checks,
            "corruptions": bool(self.corruptions),
            "corrupted_set": self.corrupted_set is not None,
            "calibration": self.calibration,
            "out_of_distribution": self.ood is not None,
        }
        return tuple(section for section, asked in wanted.items() if asked)

    @property
    def summary(self) -> str:
        """What is done, in words."""
        parts = []
        if self.attack:
            labels = listed(config.label for config in self.budgets[0].configs())
            budgets = listed(f"{budget.eps:.3g}" for budget in self.budgets)
            parts.append(f"{labels} at {self.budgets[0].norm} eps {budgets}")
        if self.corruptions:
            parts.append(f"corruptions {listed(self.corruptions)}")
        others = ("corrupted_set", "calibration", "out_of_distribution")
        parts += [section.replace("_", " ") for section in others if section in self.sections]
        return "; ".join(parts) or "label noise"

    @property
    def n_examples(self) -> int:
        """Images of the test part that are attacked and corrupted: the first ones, or some drawn from all classes."""
        return self.budgets[0].n_examples

    @property
    def seed(self) -> int:
        """Of all that is drawn."""
        return self.budgets[0].seed if self.corruption_seed is None else self.corruption_seed


def robustness_evaluation_settings(values: Mapping[str, Any]) -> RobustnessEvaluationSettings:
    """Return the settings that keys and values ask for.

    Args:
        values: keys of `RobustnessSettings` and of `EvaluationSettings` but ``budgets``. ``eps`` may be several,
            as a list or a text such as ``0,2/255,8/255``; 0 is the clean images. ``attacks`` may be ``none``.

    Raises ``RecipeError`` that names every wrong key.
    """
    own = {key: value for key, value in values.items() if key in _OWN_KEYS}
    shared = {key: value for key, value in values.items() if key not in _OWN_KEYS}
    given = shared.get("attacks")
    if isinstance(given, list | tuple | set | frozenset) and tuple(given) == ("none",):
        own["attack"] = False
        del shared["attacks"]
        _check_used(shared, own)
    if "seed" in shared and own.get("corruptions") and not _draws(shared):
        own["corruption_seed"] = shared.pop("seed")
    budgets: list[dict[str, Any]] = [shared]
    if "eps" in shared:
        amounts = _amounts(shared["eps"])
        own["from_zero"] = 0 in amounts
        budgets = [{**shared, "eps": amount} for amount in sorted(amounts, key=_rank) if amount != 0]
    own["budgets"] = tuple(budget_settings(budget) for budget in budgets)
    try:
        return RobustnessEvaluationSettings.model_validate(own)
    except ValidationError as error:
        raise RecipeError("; ".join(validation_messages(error, RobustnessEvaluationSettings))) from None


def _check_used(shared: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise ``RecipeError`` for keys that nothing reads where there are no attacks."""
    readers = {"seed": ("corruptions",), "n_examples": ("corruptions", "corrupted_set")}
    idle = [
        key
        for key in BudgetSettings.model_fields
        if key in shared and not any(own.get(section) for section in readers.get(key, ()))
    ]
    if idle:
        instead = listed(("some attacks", *readers.get(idle[0], ())))
        raise RecipeError(
            f"{idle[0]}: does nothing with attacks none; leave {listed(idle)} out, or name {instead}"
        )


def _draws(shared: Mapping[str, Any]) -> bool:
    """Return whether one of the attacks takes a seed."""
    names = {key: value for key, value in shared.items() if key == "attacks"}
    return any("seed" in type(config).model_fields for config in budget_settings(names).configs())


_OWN_KEYS = frozenset(RobustnessEvaluationSettings.model_fields) - {
    "budgets",
    "attack",
    "corruption_seed",
    "from_zero",
}


def _amounts(given: object) -> list[Any]:
    """Return the budgets that ``eps`` names; texts that are no number stay, to be refused with the other keys."""
    parts = given.split(",") if isinstance(given, str) else given
    found = [_number(part) for part in (parts if isinstance(parts, list | tuple) else (parts,))]
    if len({amount if isinstance(amount, int | float) else repr(amount) for amount in found}) < len(found):
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


__all__ = [
    "RobustnessEvaluationSettings",
    "Severities",
    "Severity",
    "parse_severities",
    "robustness_evaluation_settings",
]
