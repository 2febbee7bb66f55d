"""The settings of attacks by gradient steps of a given length; read without torch."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from kdcam.attacks.attack_settings_part import PASSES_PER_STEP, AttackSettings
from kdcam.attacks.budget import Amount, Count, Seed, usual_alpha

if TYPE_CHECKING:
    from torch import Tensor, nn


class FgsmConfig(AttackSettings):
    """One gradient step of length eps."""

    name: Literal["fgsm"] = "fgsm"

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", _: "Tensor") -> "Tensor":
        """Return adversarial images."""
        from kdcam.attacks import fgsm

        return fgsm(model, images, targets, eps=self.eps, norm=self.norm)


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
        from kdcam.attacks import bim

        return bim(model, images, targets, **self.model_dump(exclude={"name"}))


class MimConfig(_FixedStepSettings):
    """Gradient steps with momentum."""

    name: Literal["mim"] = "mim"

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", _: "Tensor") -> "Tensor":
        """Return adversarial images."""
        from kdcam.attacks import mim

        return mim(model, images, targets, **self.model_dump(exclude={"name"}))


class PgdConfig(_FixedStepSettings):
    """Gradient steps from random points."""

    name: Literal["pgd"] = "pgd"
    restarts: Count = 1
    seed: Seed = 0

    def perturb(self, model: "nn.Module", images: "Tensor", targets: "Tensor", indices: "Tensor") -> "Tensor":
        """Return adversarial images."""
        from kdcam.attacks import pgd

        return pgd(model, images, targets, indices=indices, **self.model_dump(exclude={"name"}))


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
        from kdcam.attacks import cw_margin

        return cw_margin(model, images, targets, indices=indices, **self.model_dump(exclude={"name"}))


__all__ = ["BimConfig", "CwMarginConfig", "FgsmConfig", "MimConfig", "PgdConfig"]
