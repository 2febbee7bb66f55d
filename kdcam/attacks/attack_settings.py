"""The settings of attacks that choose their steps themselves, and of the standard set of them; read without torch."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Literal

from kdcam.attacks.attack_requirements import LossName
from kdcam.attacks.attack_settings_part import NEEDS_ONE_LABEL, PASSES_PER_STEP, AttackSettings
from kdcam.attacks.budget import Count, Seed
from kdcam.attacks.stepped_config import CwMarginConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

MISSING_AUTOATTACK = (
    "autoattack: the package pyautoattack is not installed; "
    'run `pip install "kdcam[autoattack]"`, or take standard'
)
"""What is said where the extra is not installed."""


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
        from kdcam.attacks import apgd

        settings = self.model_dump(exclude={"name"})
        return apgd(model, images, targets, loss=self.raises, indices=indices, **settings)


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
        from kdcam.attacks import apgd_targeted

        return apgd_targeted(model, images, targets, indices=indices, **self.model_dump(exclude={"name"}))


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
        from kdcam.attacks import square

        return square(model, images, targets, indices=indices, **self.model_dump(exclude={"name"}))


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
        from kdcam.attacks.sequence import attacks_in_turn

        return attacks_in_turn(model, images, targets, indices, self.stages)


class AutoAttackConfig(AttackSettings):
    """AutoAttack's standard version by the package pyautoattack: an independent word on a result.

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
        from kdcam.attacks.auto_attack import auto_attack

        return auto_attack(model, images, targets, eps=self.eps, norm=self.norm, seed=self.seed)


__all__ = [
    "MISSING_AUTOATTACK",
    "ApgdConfig",
    "ApgdTargetedConfig",
    "AutoAttackConfig",
    "SquareConfig",
    "StandardConfig",
    "StandardStage",
]
