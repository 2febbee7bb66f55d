"""CAM-loss: the class-agnostic activation map is pulled to the label's class activation map."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from kdcam.cam.maps import caam, minmax_normalize, target_cam
from kdcam.losses.loss import LossConfig, Shapes, Step, present
from kdcam.runtime.numerics import mean_where

COLLAPSED_BELOW = 0.02
"""Mean CAM-loss under which maps have become alike (kdcam's choice; collapsed runs were seen at 0.005 to 0.015)."""
CHANCE_SHARE = 0.97
"""Share of log K above which cross-entropy says that nothing has been learned (kdcam's choice)."""


class CamLossConfig(LossConfig):
    """CAM-loss (Wang et al., "Towards Learning Spatially Discriminative Feature Representations", ICCV 2021,
    arXiv 2109.01359): the class-agnostic activation map (CAAM) is pulled to the label's class activation map (CAM).

    Idea: where the channels respond at all (CAAM, their plain sum) should be where they respond for the label (CAM,
    their sum weighted by the classifier's row of the label), so that features of other classes and of the
    background are suppressed.

    Equation: L = mean_n 1/(HW) sum_p | A'_n(p) - M'_n(p) |, with A = sum_c f_c the CAAM, M = sum_c w_yc f_c the CAM of
    the label y, and ' the min-max normalisation of each map on its own. The classifier's weight is detached: it learns
    from cross-entropy only (the paper's Algorithm 1). For mixed and multi-label rows M is the target-weighted
    sum of CAMs; images without any label are left out.

    When it helps: objects that fill a part of the image only. On digit scenes it gained a point of accuracy and 4
    points of pointing in three of three seeds (docs/results/losses.md).

    Where it fails: switched on from the start it can collapse the features, since constant maps make it zero
    without any right prediction (seen on digit scenes at weight 3 and 10); beside cross_entropy a warning is given
    then. On images that the object fills (Fashion-MNIST) it cost half a point, on 64
    classes of Tiny-ImageNet 2.4 points in three of three seeds, and 0.5 to 1.1 in transfer from there to CIFAR-10
    (docs/results/transfer.md). It needs an exact CAM: global
    average pooling followed by one linear layer.

    Constants: weight 3 follows the one public reimplementation (sihyeong671/PyTorch_CAM-loss @ 2a1843e); the
    paper's weight and switch epoch are not known to us. start 0.5, letting the gradient flow through both maps, and
    the eps of the min-max are kdcam's choice.
    """

    name: Literal["cam"] = "cam"
    weight: float = Field(3.0, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    start: float = Field(0.5, ge=0, lt=1, description="fraction of the run at which the term is switched on")

    needs: ClassVar[frozenset[str]] = frozenset({"cam"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed", "multi-label"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return CamLoss()

    def diagnose(self, terms: Mapping[str, float], shapes: Shapes) -> str | None:
        """Return a warning when the maps have become alike while cross-entropy stays at chance level."""
        cam, cross_entropy = terms.get("cam"), terms.get("cross_entropy")
        if cam is None or cross_entropy is None:
            return None
        chance = math.log(shapes.num_classes)
        if cam > COLLAPSED_BELOW or cross_entropy < CHANCE_SHARE * chance:
            return None
        return (
            f"loss cam: the term fell to {cam:.4f} while cross_entropy stays at {cross_entropy:.2f} (chance is "
            f"{chance:.2f}): it started before the classifier had learned anything and is collapsing the features; "
            f"start it later (--set loss.cam.start={min(0.9, self.start + 0.25):g}) or lower its weight (now "
            f"{self.weight:g})"
        )


# Why images without any label are left out: docs/decisions/010.
def cam_loss(feature_map: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute difference of the normalised CAAM and the label's normalised CAM, a scalar in [0, 1].

    ``feature_map`` is (N, C, H, W), ``weight`` the classifier's (K, C), used as a constant; ``targets`` are (N,) class
    indices or (N, K) rows, of which those without any class are left out. Source: Wang et al. 2021 (arXiv 2109.01359).
    """
    label_map = target_cam(feature_map, weight.detach(), targets)
    apart = (minmax_normalize(caam(feature_map)) - minmax_normalize(label_map)).abs().mean((1, 2))
    return apart.mean() if targets.ndim == 1 else mean_where(apart, targets.any(1))


class CamLoss(nn.Module):
    """`cam_loss` of the student's feature map and classifier."""

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        feature_map = present(step.student.feature_map, "the student's feature map")
        return cam_loss(feature_map, present(step.student.weight, "the classifier's weight"), step.targets)


__all__ = ["CamLoss", "CamLossConfig", "cam_loss"]
