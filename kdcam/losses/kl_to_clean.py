"""TRADES: the prediction of the adversarial image stays near that of the clean one."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, clean_of
from kdcam.runtime.numerics import wide


class KlToCleanConfig(LossConfig):
    """TRADES (Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan 2019, arXiv 1901.08573): the student's prediction of the
    adversarial image follows its own of the clean one.

    Idea: the error under attack is the error on clean images plus what an attack can change; this is the second part,
    and its weight trades one against the other.

    Equation: L = mean_n KL( softmax(z_clean) || softmax(z_adversarial) ), the second term of algorithm 1, and its
    1/lambda is the weight. The gradient passes through both predictions, as in the released code (yaodongyu/TRADES).

    When it helps: beside cross_entropy with images = "clean" and [adversary] maximise = "kl_to_clean", which together
    are TRADES. It needs no label and no teacher.

    Where it fails: without an [adversary] table there is nothing to compare, and the recipe is refused. Alone it
    is least for a network that says the same of every image. For one label an image.

    Constants: weight 6 is the paper's for CIFAR-10 (1/lambda = 6, and 1 beside it); the released code for MNIST has 1.
    What differs: the attack starts uniformly in the ball, not 0.001 times a normal number away from the clean image
    (kdcam's choice), and the clean images are read once, not twice.
    """

    name: Literal["kl_to_clean"] = "kl_to_clean"
    weight: float = Field(6.0, ge=0, allow_inf_nan=False, description="factor of the term in the sum")

    needs: ClassVar[frozenset[str]] = frozenset({"clean"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return KlToClean()


def kl_to_clean_loss(adversarial_logits: Tensor, clean_logits: Tensor) -> Tensor:
    """Return the mean over images of KL(clean || adversarial), a scalar >= 0; both logits are (N, K).

    Source: Zhang et al. 2019 (arXiv 1901.08573), algorithm 1, and yaodongyu/TRADES.
    """
    adversarial = F.log_softmax(wide(adversarial_logits), dim=1)
    clean = F.log_softmax(wide(clean_logits), dim=1)
    return F.kl_div(adversarial, clean, reduction="batchmean", log_target=True)


class KlToClean(nn.Module):
    """`kl_to_clean_loss` of the student's logits of adversarial and clean images."""

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return kl_to_clean_loss(step.student.logits, clean_of(step).logits)


__all__ = ["KlToClean", "KlToCleanConfig", "kl_to_clean_loss"]
