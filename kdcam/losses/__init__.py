"""The losses by name: a recipe's ``[[loss]]`` tables choose among them."""

from kdcam.losses.caam_cam import CaamCamConfig
from kdcam.losses.cam import CamLossConfig
from kdcam.losses.cross_entropy import CrossEntropyConfig
from kdcam.losses.kd import KdConfig
from kdcam.losses.loss import LossConfig

LOSSES: dict[str, type[LossConfig]] = {
    "caam_cam": CaamCamConfig,
    "cam": CamLossConfig,
    "cross_entropy": CrossEntropyConfig,
    "kd": KdConfig,
}

__all__ = ["LOSSES"]
