"""The settings of every attack, and the table ATTACKS that lists them; read without torch."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

import kdcam.attacks  # each attack in it is loaded when it is run
from kdcam.attacks.attack_requirements import MISSING_AUTOATTACK, LossName, too_few_classes
from kdcam.attacks.budget import Amount, Count, Norm, Seed, usual_alpha, usual_eps
from kdcam.errors import RecipeError
from kdcam.settings.validation import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

NEEDS_ONE_LABEL = "needs one label an image, found several; take fgsm, bim, mim, pgd or apgd-ce"
"""What is said of an attack that cannot work on them."""

PASSES_PER_STEP = 3
"""Passes of a step: a forward and a backward one, which takes about two forward ones."""


class AttackSettings(Settings):
    """A budget, a name, and what an attack can be run on."""

    number: ClassVar[str | None] = None  # the setting that a number after the name gives, as in pgd-20
    takes_rows: ClassVar[bool] = True  # whether it works with several labels an image
    # Whether it is worth crafting on one network to fool another: False: it stops just over the first one's border.
    transfers: ClassVar[bool] = True

    name: str
    norm: Norm = "linf"
    eps: Amount = Field(default_factory=usual_eps)

    @property
    def raises(self) -> str:
        """The loss that it raises, a name of `kdcam.attacks.attack_requirements.MIN_CLASSES`."""
        return "cross_entropy"

    @property
    def expected_passes(self) -> int:
        """About how many passes an image that stands takes, in forward passes; for the time left, not for reports."""
        return PASSES_PER_STEP

    @property
    def label(self) -> str:
        """Its name in tables: with its number and, where there are several, its restarts."""
        number = "" if self.number is None else f"-{getattr(self, self.number)}"
        restarts = getattr(self, "restarts", 1)
        return f"{self.name}{number}" + (f"x{restarts}" if restarts > 1 else "")

    def stages(self, num_classes: int) -> "tuple[StandardStage, ...]":
        """Return the attacks that it runs in turn, each on what is left; none: it is a single attack."""
        del num_classes
        return ()

    def problem(self, num_classes: int, *, multi_label: bool) -> str | None:
        """Return in words why it cannot attack a network of so many classes; None: it can."""
        if multi_label:
            # Each class is a decision of its own here: one is enough, and there is no likeliest other one.
            return None if self.takes_rows else f"{self.name}: {NEEDS_ONE_LABEL}"
        problem = too_few_classes(self.raises, num_classes)
        return None if problem is None else f"{self.name}: {problem}"


class FgsmConfig(AttackSettings):
    """One gradient step of length eps."""

    name: Literal["fgsm"] = "fgsm"

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", _: "Tensor") -> "Tensor":
        """Return adversarial images."""
        return kdcam.attacks.fgsm(model, images, targets, eps=self.eps, norm=self.norm)


class _FixedStepSettings(AttackSettings):
    """What the attacks of several gradient steps take."""

    number: ClassVar[str | None] = "steps"

    alpha: Amount = Field(default_factory=usual_alpha)
    steps: Count = 10
    stop_when_fooled: bool = True  # a fooled image drops out of its batch; False: the papers' last step

    @property
    def expected_passes(self) -> int:
        """About how many passes an image that stands takes, in forward passes."""
        restarts: int = getattr(self, "restarts", 1)
        return PASSES_PER_STEP * self.steps * restarts


class BimConfig(_FixedStepSettings):
    """Gradient steps from the clean image."""

    name: Literal["bim"] = "bim"

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", _: "Tensor") -> "Tensor":
        """Return adversarial images."""
        return kdcam.attacks.bim(model, images, targets, **self.model_dump(exclude={"name"}))


class MimConfig(_FixedStepSettings):
    """Gradient steps with momentum."""

    name: Literal["mim"] = "mim"

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", _: "Tensor") -> "Tensor":
        """Return adversarial images."""
        return kdcam.attacks.mim(model, images, targets, **self.model_dump(exclude={"name"}))


class PgdConfig(_FixedStepSettings):
    """Gradient steps from random points."""

    name: Literal["pgd"] = "pgd"
    restarts: Count = 1
    seed: Seed = 0

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", indices: "Tensor") -> "Tensor":
        """Return adversarial images."""
        return kdcam.attacks.pgd(model, images, targets, indices=indices, **self.model_dump(exclude={"name"}))


class CwMarginConfig(_FixedStepSettings):
    """Gradient steps from random points on the margin loss of Carlini & Wagner."""

    takes_rows: ClassVar[bool] = False

    name: Literal["cw-margin"] = "cw-margin"
    restarts: Count = 1
    seed: Seed = 0

    @property
    def raises(self) -> str:
        """The loss that it raises."""
        return "margin"

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", indices: "Tensor") -> "Tensor":
        """Return adversarial images."""
        return kdcam.attacks.cw_margin(
            model, images, targets, indices=indices, **self.model_dump(exclude={"name"})
        )


class ApgdConfig(AttackSettings):
    """Auto-PGD on the cross-entropy (apgd-ce) or the DLR loss (apgd-dlr)."""

    number: ClassVar[str | None] = "steps"

    name: Literal["apgd-ce", "apgd-dlr"] = "apgd-ce"
    steps: Count = 100
    restarts: Count = 1
    seed: Seed = 0
    stop_when_fooled: bool = True  # a fooled image drops out of its batch; False: the point of highest loss

    @property
    def expected_passes(self) -> int:
        """About how many passes an image that stands takes, in forward passes."""
        return PASSES_PER_STEP * self.steps * self.restarts

    @property
    def raises(self) -> LossName:
        """The loss that it raises."""
        return "cross_entropy" if self.name == "apgd-ce" else "dlr"

    def problem(self, num_classes: int, *, multi_label: bool) -> str | None:
        """Return in words why it cannot attack a network of so many classes; None: it can."""
        if multi_label and self.name == "apgd-dlr":
            return f"{self.name}: {NEEDS_ONE_LABEL}"
        return super().problem(num_classes, multi_label=multi_label)

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", indices: "Tensor") -> "Tensor":
        """Return adversarial images."""
        settings = self.model_dump(exclude={"name"})
        return kdcam.attacks.apgd(model, images, targets, loss=self.raises, indices=indices, **settings)


class ApgdTargetedConfig(AttackSettings):
    """Auto-PGD on the targeted DLR loss, aimed at the likeliest other classes one after the other."""

    number: ClassVar[str | None] = "steps"
    takes_rows: ClassVar[bool] = False

    name: Literal["apgd-t"] = "apgd-t"
    n_target_classes: Count = 9  # or all other classes where there are fewer
    steps: Count = 100
    restarts: Count = 1
    seed: Seed = 0
    stop_when_fooled: bool = True  # a fooled image drops out of its batch; False: the point of highest loss

    @property
    def expected_passes(self) -> int:
        """About how many passes an image that stands takes, in forward passes, with that many classes to aim at."""
        return PASSES_PER_STEP * self.steps * self.restarts * self.n_target_classes

    @property
    def raises(self) -> str:
        """The loss that it raises."""
        return "targeted_dlr"

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", indices: "Tensor") -> "Tensor":
        """Return adversarial images."""
        return kdcam.attacks.apgd_targeted(
            model, images, targets, indices=indices, **self.model_dump(exclude={"name"})
        )


class SquareConfig(AttackSettings):
    """Random search with squares of colour: no gradient.

    The schedule of the squares' sizes is stretched to ``n_queries``; AutoAttack's own keeps that of 10,000 queries.
    """

    number: ClassVar[str | None] = "n_queries"
    takes_rows: ClassVar[bool] = False
    transfers: ClassVar[bool] = False

    name: Literal["square"] = "square"
    n_queries: Count = 5000
    seed: Seed = 0

    @property
    def expected_passes(self) -> int:
        """How many passes an image that stands takes: forward ones."""
        return self.n_queries

    @property
    def raises(self) -> str:
        """The loss that it raises."""
        return "margin"

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", indices: "Tensor") -> "Tensor":
        """Return adversarial images."""
        return kdcam.attacks.square(
            model, images, targets, indices=indices, **self.model_dump(exclude={"name"})
        )


StandardStage = ApgdConfig | ApgdTargetedConfig | CwMarginConfig | SquareConfig
"""One of the attacks that the standard set runs in turn."""


class StandardConfig(AttackSettings):
    """apgd-ce, apgd-t and square with AutoAttack's settings, each on the images that still stand.

    It leaves out AutoAttack's FAB attack, so it may find a little less than `AutoAttackConfig`, and stretches the
    schedule of square to its queries, where AutoAttack keeps that of 10,000.
    """

    takes_rows: ClassVar[bool] = False
    transfers: ClassVar[bool] = False

    name: Literal["standard"] = "standard"
    apgd_steps: Count = 100
    n_queries: Count = 5000  # of square
    seed: Seed = 0

    @property
    def expected_passes(self) -> int:
        """About how many passes an image that stands takes, in forward passes, with 10 classes or more."""
        return sum(stage.expected_passes for stage in self.stages(10))

    @property
    def raises(self) -> str:
        """The loss that needs the fewest classes of those that its stages raise."""
        return "margin"

    @property
    def label(self) -> str:
        """Its name in tables: with its numbers where they are not the standard ones."""
        fields = type(self).model_fields
        standard = all(getattr(self, key) == fields[key].default for key in ("apgd_steps", "n_queries"))
        return self.name if standard else f"{self.name}-{self.apgd_steps}-{self.n_queries}"

    def stages(self, num_classes: int) -> tuple[StandardStage, ...]:
        """Return its attacks in order; below 4 classes apgd-dlr (3) or cw-margin (2) in the place of apgd-t."""
        norm, eps, seed, steps = self.norm, self.eps, self.seed, self.apgd_steps
        second: StandardStage
        if num_classes >= 4:
            second = ApgdTargetedConfig(norm=norm, eps=eps, seed=seed, steps=steps)
        elif num_classes == 3:
            second = ApgdConfig(name="apgd-dlr", norm=norm, eps=eps, seed=seed, steps=steps)
        else:
            second = CwMarginConfig(norm=norm, eps=eps, seed=seed, steps=steps)
        return (
            ApgdConfig(norm=norm, eps=eps, seed=seed, steps=steps),
            second,
            SquareConfig(norm=norm, eps=eps, seed=seed, n_queries=self.n_queries),
        )

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", indices: "Tensor") -> "Tensor":
        """Return adversarial images: of each the first stage that fools, else what the last stage made.

        An evaluation runs the `stages` itself, so that it can fill its batches again between them.
        """
        from kdcam.attacks.successive_attacks import attacks_in_turn  # lazy: it loads torch

        return attacks_in_turn(model, images, targets, indices, self.stages)


class AutoAttackConfig(AttackSettings):
    """AutoAttack's standard version by the package pyautoattack: an independent check of a result.

    It draws by the batch: in another batch an image meets other random numbers.
    """

    takes_rows: ClassVar[bool] = False
    transfers: ClassVar[bool] = False

    name: Literal["autoattack"] = "autoattack"
    seed: Seed = 0

    @property
    def expected_passes(self) -> int:
        """About how many passes an image that stands takes, in forward passes: 300 of apgd-ce, 2,700 each of apgd-t and
        fab-t, 5,000 of square."""
        return 10_000

    @property
    def raises(self) -> str:
        """The loss that needs the most classes of those that it raises."""
        return "targeted_dlr"

    def problem(self, num_classes: int, *, multi_label: bool) -> str | None:
        """Return in words why it cannot attack a network of so many classes; None: it can."""
        if find_spec("pyautoattack") is None:
            return MISSING_AUTOATTACK
        return super().problem(num_classes, multi_label=multi_label)

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", _: "Tensor") -> "Tensor":
        """Return adversarial images."""
        from kdcam.attacks.auto_attack import auto_attack  # lazy: it loads torch

        return auto_attack(model, images, targets, eps=self.eps, norm=self.norm, seed=self.seed)


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
    "NEEDS_ONE_LABEL",
    "PASSES_PER_STEP",
    "AnyAttack",
    "ApgdConfig",
    "ApgdTargetedConfig",
    "AttackConfig",
    "AttackSettings",
    "AutoAttackConfig",
    "BimConfig",
    "CwMarginConfig",
    "FgsmConfig",
    "MimConfig",
    "PgdConfig",
    "SquareConfig",
    "StandardConfig",
    "StandardStage",
    "check_attacks",
]
