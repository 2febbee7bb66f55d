"""What the settings of all attacks have in common; read without torch."""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from kdcam.attacks.attack_requirements import too_few_classes
from kdcam.attacks.budget import Amount, Norm, usual_eps
from kdcam.settings.frozen_settings import Settings

if TYPE_CHECKING:
    from kdcam.attacks.attack_settings import StandardStage

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


__all__ = ["NEEDS_ONE_LABEL", "PASSES_PER_STEP", "AttackSettings"]
