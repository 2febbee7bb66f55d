"""Maximum-entropy term: sure predictions cost."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.runtime.numerics import wide


class MaxEntropyConfig(LossConfig):
    """Maximum-entropy term (Dubey et al., "Maximum-Entropy Fine-Grained Classification", NeurIPS 2018, arXiv
    1809.05934): the entropy of the prediction is raised beside cross-entropy.

    Idea: fine-grained classes look alike, and a network that is sure of one has often learned the image, not the class.

    Equation: L = mean_n sum_k p_nk log p_nk, minus the entropy, with p = softmax(logits); from -log K for even
    predictions to 0 for sure ones.

    When it helps: similar classes and few images (the paper's claim, for fine-tuning). Where it fails: probabilities
    come out too unsure, and a large weight keeps the network from learning.

    Constants: the paper's weight is not known to us; 0.1 is kdcam's choice.
    """

    name: Literal["max_entropy"] = "max_entropy"
    weight: float = Field(0.1, ge=0, allow_inf_nan=False, description="factor of the term in the sum")

    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return MaxEntropy()


def max_entropy(logits: Tensor) -> Tensor:
    """Return minus the mean entropy of softmax(logits), a scalar in [-log K, 0]; ``logits`` (N, K).

    Source: Dubey et al. 2018 (arXiv 1809.05934).
    """
    every = wide(logits).log_softmax(1)
    return (every.exp() * every).sum(1).mean()


class MaxEntropy(nn.Module):
    """`max_entropy` of the student's logits."""

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return max_entropy(step.student.logits)


__all__ = ["MaxEntropy", "MaxEntropyConfig", "max_entropy"]
