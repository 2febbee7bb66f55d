"""The settings of attacks and of a robustness evaluation; read without torch."""

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from kdcam.errors import RecipeError
from kdcam.recipe_errors import explain
from kdcam.settings import Positive, Settings
from kdcam.wording import did_you_mean, listed

if TYPE_CHECKING:
    from torch import Tensor, nn

Norm = Literal["linf", "l2"]

# The budgets of RobustBench's CIFAR boards.
_USUAL_EPS = {"linf": 8 / 255, "l2": 0.5}


def parse_fraction(text: str | float) -> float:
    """Return the number that a text such as ``8/255`` or ``0.03`` stands for; numbers pass.

    Raises ``ValueError`` for anything else.
    """
    if not isinstance(text, str):
        return text
    try:
        return float(Fraction(text.replace(" ", "")))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"found {text!r}; must be a number or a fraction such as 8/255") from None


def _usual_eps(data: dict[str, Any]) -> float:
    return _USUAL_EPS[data.get("norm", "linf")]


def _usual_alpha(data: dict[str, Any]) -> float:
    eps: float = data.get("eps", _USUAL_EPS["linf"])
    return eps / 4


Amount = Annotated[Positive, BeforeValidator(parse_fraction)]
"""A length in [0, 1] pixel units, as a number or a text such as ``8/255``."""
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


class FgsmConfig(Settings):
    """One gradient step of length eps."""

    name: Literal["fgsm"] = "fgsm"
    norm: Norm = "linf"
    eps: Amount = Field(default_factory=_usual_eps)

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.name

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", _: "Tensor") -> "Tensor":
        """Return adversarial images."""
        from kdcam.robustness.attacks import fgsm

        return fgsm(model, images, targets, eps=self.eps, norm=self.norm)


class _SteppedConfig(Settings):
    """What the attacks of several gradient steps take."""

    name: str
    norm: Norm = "linf"
    eps: Amount = Field(default_factory=_usual_eps)
    alpha: Amount = Field(default_factory=_usual_alpha)
    steps: Count = 10

    @property
    def label(self) -> str:
        """Its name in tables."""
        return f"{self.name}-{self.steps}"


class BimConfig(_SteppedConfig):
    """Gradient steps from the clean image."""

    name: Literal["bim"] = "bim"

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", _: "Tensor") -> "Tensor":
        """Return adversarial images."""
        from kdcam.robustness.attacks import bim

        return bim(model, images, targets, eps=self.eps, alpha=self.alpha, steps=self.steps, norm=self.norm)


class PgdConfig(_SteppedConfig):
    """Gradient steps from random points."""

    name: Literal["pgd"] = "pgd"
    restarts: Count = 1
    seed: Seed = 0

    @property
    def label(self) -> str:
        """Its name in tables."""
        return super().label + (f"x{self.restarts}" if self.restarts > 1 else "")

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", indices: "Tensor") -> "Tensor":
        """Return adversarial images."""
        from kdcam.robustness.attacks import pgd

        return pgd(
            model,
            images,
            targets,
            eps=self.eps,
            alpha=self.alpha,
            steps=self.steps,
            norm=self.norm,
            restarts=self.restarts,
            seed=self.seed,
            indices=indices,
        )


class MimConfig(_SteppedConfig):
    """Gradient steps with momentum."""

    name: Literal["mim"] = "mim"

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", _: "Tensor") -> "Tensor":
        """Return adversarial images."""
        from kdcam.robustness.attacks import mim

        return mim(model, images, targets, eps=self.eps, alpha=self.alpha, steps=self.steps, norm=self.norm)


AttackConfig = Annotated[FgsmConfig | BimConfig | PgdConfig | MimConfig, Field(discriminator="name")]

ATTACKS: Mapping[str, type[FgsmConfig | BimConfig | PgdConfig | MimConfig]] = {
    "bim": BimConfig,
    "fgsm": FgsmConfig,
    "mim": MimConfig,
    "pgd": PgdConfig,
}
"""Every attack's settings by its name."""


class RobustnessSettings(Settings):
    """What a robustness evaluation runs; one budget for all attacks, each takes the settings it knows."""

    attacks: tuple[str, ...] = ("fgsm", "pgd")  # names of ATTACKS; pgd-20 is pgd with 20 steps
    norm: Norm = "linf"
    eps: Amount = Field(default_factory=_usual_eps)  # 8/255 (linf), 0.5 (l2)
    alpha: Amount = Field(default_factory=_usual_alpha)  # a quarter of eps
    steps: Count = 10
    restarts: Count = 1
    seed: Seed = 0
    n_examples: Count = 1000  # the first ones of the part

    @model_validator(mode="after")
    def _each_name_and_setting_counts(self) -> Self:
        if self.norm == "linf" and self.eps > 1:
            raise ValueError(f"eps: found {self.eps:g}; lengths are in [0, 1] pixel units, as in 8/255")
        configs = self.configs()
        labels = [config.label for config in configs]
        if not labels or len(set(labels)) < len(labels):
            raise ValueError(f"attacks: found {listed(labels)}; name at least one attack, and each once")
        for key in ("alpha", "steps", "restarts", "seed"):
            takers = [name for name, kind in ATTACKS.items() if key in kind.model_fields]
            if key in self.model_fields_set and not any(config.name in takers for config in configs):
                raise ValueError(
                    f"{key}: does nothing for {listed(self.attacks)}; add one of {listed(takers)} or leave "
                    f"{key} out"
                )
        return self

    def configs(self) -> tuple[FgsmConfig | BimConfig | PgdConfig | MimConfig, ...]:
        """Return the settings of each attack, in the order given."""
        return tuple(self._config(name) for name in self.attacks)

    def _config(self, text: str) -> FgsmConfig | BimConfig | PgdConfig | MimConfig:
        name, dash, steps = text.partition("-")
        kind = ATTACKS.get(name)
        known = f"known: {listed(ATTACKS)}; with a number of steps as in pgd-20"
        if kind is None:
            raise ValueError(f"attacks: found {text!r}{did_you_mean(name, ATTACKS)}; {known}")
        values = {key: getattr(self, key) for key in kind.model_fields if key != "name"}
        if dash:
            if "steps" not in values or not steps.isdecimal() or int(steps) < 1:
                raise ValueError(f"attacks: found {text!r}; {known} (fgsm has no steps)")
            values["steps"] = int(steps)
        return kind(**values)


def robustness_settings(values: Mapping[str, Any]) -> RobustnessSettings:
    """Return the settings that keys and values ask for; eps and alpha may be texts such as ``8/255``.

    Raises ``RecipeError`` that names every wrong key.
    """
    try:
        return RobustnessSettings.model_validate(dict(values))
    except ValidationError as error:
        raise RecipeError("; ".join(explain(error, RobustnessSettings))) from None


__all__ = [
    "ATTACKS",
    "Amount",
    "AttackConfig",
    "BimConfig",
    "FgsmConfig",
    "MimConfig",
    "Norm",
    "PgdConfig",
    "RobustnessSettings",
    "parse_fraction",
    "robustness_settings",
]
