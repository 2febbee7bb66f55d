"""The table [adversary] of a recipe: which attack makes the images that a student is trained on; read without torch."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from kdcam.attacks.budget import Amount, Count, Norm, usual_eps
from kdcam.settings.validation import Settings

_MADRY_STEPS = 7  # Madry et al. 2018, arXiv 1706.06083, on CIFAR-10
_WONG_ALPHA = 1.25  # Wong et al. 2020, arXiv 2001.03994: 10/255 for eps = 8/255


def _usual_steps(data: dict[str, Any]) -> int:
    return 1 if data.get("attack") == "fgsm" else _MADRY_STEPS


def _usual_alpha(data: dict[str, Any]) -> float:
    eps: float = data.get("eps", usual_eps(data))
    if data.get("attack") != "fgsm":
        return eps / 4  # 2/255 for eps = 8/255
    return eps * _WONG_ALPHA if data.get("random_start", True) else eps


# Why adversarial training is a table beside the losses: docs/decisions/016.
class AdversaryConfig(Settings):
    """Adversarial training: at each step the student is trained on images that an attack on it has made.

    The teacher always sees the clean images.
    """

    attack: Literal["pgd", "fgsm"] = Field("pgd", description="gradient steps; fgsm: a single one")
    norm: Norm = Field("linf", description="what eps measures: each pixel (linf) or the whole image (l2)")
    eps: Amount = Field(
        default_factory=usual_eps,
        description='largest change in [0, 1] pixel units, a number or "8/255"; usually 8/255 (linf), 0.5 (l2)',
    )
    random_start: bool = Field(
        True, description="start at a random point of the ball, not at the clean image"
    )
    steps: Count = Field(default_factory=_usual_steps, description="gradient steps of pgd; usually 7")
    alpha: Amount = Field(
        default_factory=_usual_alpha,
        description="length of a step; usually eps / 4, of fgsm 1.25 eps (eps without random_start)",
    )
    maximise: Literal["cross_entropy", "kl_to_clean", "kl_to_teacher"] = Field(
        "cross_entropy",
        description="what the attack raises: the loss of the label (Madry), the divergence from the student's own "
        "prediction of the clean image (TRADES), or from the teacher's (RSLAD)",
    )

    @model_validator(mode="after")
    def _settings_count(self) -> Self:
        if self.norm == "linf" and self.eps > 1:
            raise ValueError(f"eps: found {self.eps:g}; lengths are in [0, 1] pixel units, as in 8/255")
        if self.attack == "fgsm" and self.steps != 1:
            raise ValueError(
                f'steps: found {self.steps} with attack = "fgsm", which does one; leave steps out, or set '
                'attack = "pgd"'
            )
        if self.maximise == "kl_to_clean" and not self.random_start:
            raise ValueError(
                'random_start: found false with maximise = "kl_to_clean", whose gradient is zero at the clean image; '
                "set random_start = true"
            )
        return self

    @property
    def needs(self) -> frozenset[str]:
        """What the attack reads of a teacher, as losses name it."""
        return frozenset({"teacher.logits"} if self.maximise == "kl_to_teacher" else ())


__all__ = ["AdversaryConfig"]
