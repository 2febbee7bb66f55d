"""The losses by name: a recipe's ``[[loss]]`` tables choose among them."""

from kdcam.losses.binary_cross_entropy import BinaryCrossEntropyConfig
from kdcam.losses.caam_cam import CaamCamConfig
from kdcam.losses.cam import CamLossConfig
from kdcam.losses.channel_correlation import ChannelCorrelationConfig
from kdcam.losses.cross_entropy import CrossEntropyConfig
from kdcam.losses.focal import FocalConfig, SigmoidFocalConfig
from kdcam.losses.generalized_cross_entropy import GeneralizedCrossEntropyConfig
from kdcam.losses.guided_complement_entropy import GuidedComplementEntropyConfig
from kdcam.losses.hnc import HncKdConfig, HncMseConfig
from kdcam.losses.include_exclude import IncludeExcludeConfig
from kdcam.losses.kd import KdConfig
from kdcam.losses.loss import LossConfig
from kdcam.losses.max_entropy import MaxEntropyConfig
from kdcam.losses.mutual_channel import MutualChannelConfig

LOSSES: dict[str, type[LossConfig]] = {
    "binary_cross_entropy": BinaryCrossEntropyConfig,
    "caam_cam": CaamCamConfig,
    "cam": CamLossConfig,
    "channel_correlation": ChannelCorrelationConfig,
    "cross_entropy": CrossEntropyConfig,
    "focal": FocalConfig,
    "generalized_cross_entropy": GeneralizedCrossEntropyConfig,
    "guided_complement_entropy": GuidedComplementEntropyConfig,
    "hnc_kd": HncKdConfig,
    "hnc_mse": HncMseConfig,
    "include_exclude": IncludeExcludeConfig,
    "kd": KdConfig,
    "max_entropy": MaxEntropyConfig,
    "mutual_channel": MutualChannelConfig,
    "sigmoid_focal": SigmoidFocalConfig,
}

__all__ = ["LOSSES"]
