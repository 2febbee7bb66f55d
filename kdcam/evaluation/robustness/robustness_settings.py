"""What a whole robustness evaluation does: attacks of several budgets, checks, corruptions, calibration, shift.

Read without torch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from kdcam.attacks.attack_settings import ATTACKS, AnyAttack
from kdcam.attacks.budget import Amount, Count, Norm, Seed, parse_fraction, usual_alpha, usual_eps
from kdcam.corruptions.corruption_list import CORRUPTIONS, SEVERITIES
from kdcam.errors import RecipeError
from kdcam.settings.messages import did_you_mean, listed
from kdcam.settings.validation import Settings, validation_messages


class BudgetSettings(Settings):
    """The attacks of one budget; each takes the settings it knows."""

    # names of ATTACKS; pgd-20: 20 steps, square-1000: 1,000 queries
    attacks: tuple[str, ...] = ("fgsm", "pgd")
    norm: Norm = "linf"
    eps: Amount = Field(default_factory=usual_eps)  # 8/255 (linf), 0.5 (l2)
    alpha: Amount = Field(default_factory=usual_alpha)  # a quarter of eps
    steps: Count | None = None  # None: each attack's own number, 10 or, of apgd, 100
    restarts: Count = 1
    seed: Seed = 0
    n_examples: Count = 1000  # the first ones of the part

    @model_validator(mode="after")
    def _each_name_and_setting_counts(self) -> Self:
        if self.norm == "linf" and self.eps > 1:
            raise ValueError(f"eps: found {self.eps:g}; lengths are in [0, 1] pixel units, as in 8/255")
        labels = [config.label for config in self.configs()]
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f"attacks: found {listed(labels)}; name at least one attack, and each once")
        for key in ("alpha", "steps", "restarts", "seed"):
            if key in self.model_fields_set:
                self._check_taken(key)
        return self

    def _check_taken(self, key: str) -> None:
        """Raise ``ValueError`` where no attack takes a setting that was given."""
        attacks = {text: _name_and_number(text) for text in self.attacks}
        kinds = {text: ATTACKS[name] for text, (name, _) in attacks.items()}
        takers = [text for text, kind in kinds.items() if key in kind.model_fields]
        named = [text for text in takers if kinds[text].number == key and attacks[text][1] is not None]
        if len(takers) > len(named):
            return
        if named:
            raise ValueError(
                f"{key}: found {getattr(self, key)}, but {listed(named)} has its number in the name; leave {key} "
                "out, or write the name without a number"
            )
        others = [name for name, kind in ATTACKS.items() if key in kind.model_fields]
        raise ValueError(
            f"{key}: does nothing for {listed(self.attacks)}; add one of {listed(others)} or leave {key} out"
        )

    def configs(self) -> tuple[AnyAttack, ...]:
        """Return the settings of each attack, in the order given."""
        return tuple(self._config(name) for name in self.attacks)

    def _config(self, text: str) -> AnyAttack:
        name, number = _name_and_number(text)
        kind = ATTACKS[name]
        mine = type(self).model_fields.keys() & kind.model_fields.keys()
        values: dict[str, Any] = {"name": name, **{key: getattr(self, key) for key in mine}}
        if kind.number is not None and number is not None:
            values[kind.number] = number
        return kind(**{key: value for key, value in values.items() if value is not None})


def budget_settings(values: Mapping[str, Any]) -> BudgetSettings:
    """Return the settings that keys and values ask for; eps and alpha may be texts such as ``8/255``.

    Raises ``RecipeError`` that names every wrong key.
    """
    try:
        return BudgetSettings.model_validate(dict(values))
    except ValidationError as error:
        raise RecipeError("; ".join(validation_messages(error, BudgetSettings))) from None


def _name_and_number(text: str) -> tuple[str, int | None]:
    """Return an attack's name in ATTACKS, and the number of steps or queries after it."""
    if text in ATTACKS:
        return text, None
    known = f"known: {listed(ATTACKS)}; with a number of steps as in pgd-20, of queries as in square-1000"
    name, _, number = text.rpartition("-")
    if not (number.isdecimal() and name):
        raise ValueError(f"attacks: found {text!r}{did_you_mean(text, ATTACKS)}; {known}")
    if name not in ATTACKS:
        raise ValueError(f"attacks: found {text!r}{did_you_mean(name, ATTACKS)}; {known}")
    if ATTACKS[name].number is None:
        raise ValueError(
            f"attacks: found {text!r}; {known} ({listed(key for key in ATTACKS if ATTACKS[key].number is None)} "
            "have none)"
        )
    if int(number) < 1:
        raise ValueError(
            f"attacks: found {text!r}; the number after {name} must be at least 1, as in {name}-10"
        )
    return name, int(number)


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
    """What is done to each run; `robustness_evaluation_settings` makes it of keys and values."""

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
    base: Path | None = None  # a run that corruption errors are relative to

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
    def attack_configs(self) -> tuple[AnyAttack, ...]:
        """The attacks of all budgets, from the smallest budget on."""
        return tuple(config for budget in self.budgets for config in budget.configs())

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections of robustness.json that are asked for; label noise is reported whenever a run was given some."""
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


_OWN_KEYS = frozenset(RobustnessEvaluationSettings.model_fields) - {
    "budgets",
    "attack",
    "corruption_seed",
    "from_zero",
}


def robustness_evaluation_settings(values: Mapping[str, Any]) -> RobustnessEvaluationSettings:
    """Return the settings that keys and values ask for.

    Args:
        values: keys of `BudgetSettings` and of `RobustnessEvaluationSettings` but ``budgets``. ``eps`` may be several,
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
    "BudgetSettings",
    "RobustnessEvaluationSettings",
    "Severities",
    "Severity",
    "budget_settings",
    "parse_severities",
    "robustness_evaluation_settings",
]
