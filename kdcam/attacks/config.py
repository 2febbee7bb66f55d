"""The settings of a robustness evaluation and the table of attacks; read without torch."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from kdcam.attacks.attack_settings import (
    ApgdConfig,
    ApgdTargetedConfig,
    AutoAttackConfig,
    SquareConfig,
    StandardConfig,
)
from kdcam.attacks.budget import Amount, Count, Norm, Seed, usual_alpha, usual_eps
from kdcam.attacks.stepped_config import BimConfig, CwMarginConfig, FgsmConfig, MimConfig, PgdConfig
from kdcam.errors import RecipeError
from kdcam.settings.frozen_settings import Settings
from kdcam.settings.messages import did_you_mean, listed
from kdcam.settings.recipe_errors import validation_messages

AnyAttack = (
    ApgdConfig
    | ApgdTargetedConfig
    | AutoAttackConfig
    | BimConfig
    | CwMarginConfig
    | FgsmConfig
    | MimConfig
    | PgdConfig
    | SquareConfig
    | StandardConfig
)
"""The settings of some attack."""

AttackConfig = Annotated[AnyAttack, Field(discriminator="name")]
"""The same, read by its key name."""

ATTACKS: Mapping[str, type[AnyAttack]] = {
    "apgd-ce": ApgdConfig,
    "apgd-dlr": ApgdConfig,
    "apgd-t": ApgdTargetedConfig,
    "autoattack": AutoAttackConfig,
    "bim": BimConfig,
    "cw-margin": CwMarginConfig,
    "fgsm": FgsmConfig,
    "mim": MimConfig,
    "pgd": PgdConfig,
    "square": SquareConfig,
    "standard": StandardConfig,
}
"""Every attack's settings by its name."""


class BudgetSettings(Settings):
    """What a robustness evaluation runs; one budget for all attacks, each takes the settings it knows."""

    attacks: tuple[str, ...] = (
        "fgsm",
        "pgd",
    )  # names of ATTACKS; pgd-20: 20 steps, square-1000: 1,000 queries
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


def budget_settings(values: Mapping[str, Any]) -> BudgetSettings:
    """Return the settings that keys and values ask for; eps and alpha may be texts such as ``8/255``.

    Raises ``RecipeError`` that names every wrong key.
    """
    try:
        return BudgetSettings.model_validate(dict(values))
    except ValidationError as error:
        raise RecipeError("; ".join(validation_messages(error, BudgetSettings))) from None


def check_attacks(attacks: Sequence[AnyAttack], *, num_classes: int, multi_label: bool) -> None:
    """Raise ``RecipeError`` where an attack cannot run: too few classes, several labels, a missing package.

    To be asked before anything runs. All problems are named at once.
    """
    problems = [attack.problem(num_classes, multi_label=multi_label) for attack in attacks]
    found = [problem for problem in problems if problem is not None]
    if found:
        raise RecipeError(f"attacks: {'; '.join(found)}")


__all__ = [
    "ATTACKS",
    "AnyAttack",
    "AttackConfig",
    "BudgetSettings",
    "budget_settings",
    "check_attacks",
]
