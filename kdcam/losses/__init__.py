"""The losses by name: a recipe's ``[[loss]]`` tables choose among them."""

from kdcam.losses.anchor import AnchorLossConfig
from kdcam.losses.arcface import ArcFaceConfig
from kdcam.losses.asoftmax import ASoftmaxConfig
from kdcam.losses.attention_transfer import AttentionTransferConfig
from kdcam.losses.binary_cross_entropy import BinaryCrossEntropyConfig
from kdcam.losses.caam_cam import CaamCamConfig
from kdcam.losses.cam import CamLossConfig
from kdcam.losses.cam_kd import CamKdConfig
from kdcam.losses.cat_kd import CatKdConfig
from kdcam.losses.center import CenterConfig
from kdcam.losses.channel_correlation import ChannelCorrelationConfig
from kdcam.losses.correlation_congruence import CorrelationCongruenceConfig
from kdcam.losses.cosface import CosFaceConfig
from kdcam.losses.crd import CrdConfig
from kdcam.losses.cross_entropy import CrossEntropyConfig
from kdcam.losses.dist import DistConfig
from kdcam.losses.dkd import DkdConfig
from kdcam.losses.explanation_match import ExplanationMatchConfig
from kdcam.losses.fical import FicalConfig
from kdcam.losses.fitnet import FitnetConfig
from kdcam.losses.focal import FocalConfig, SigmoidFocalConfig
from kdcam.losses.generalized_cross_entropy import GeneralizedCrossEntropyConfig
from kdcam.losses.gradient_boosting_cross_entropy import GradientBoostingCrossEntropyConfig
from kdcam.losses.guided_complement_entropy import GuidedComplementEntropyConfig
from kdcam.losses.hnc import HncKdConfig, HncMseConfig
from kdcam.losses.ical import IcalConfig
from kdcam.losses.include_exclude import IncludeExcludeConfig
from kdcam.losses.kd import KdConfig
from kdcam.losses.kl_to_clean import KlToCleanConfig
from kdcam.losses.lgm import LgmConfig
from kdcam.losses.loss import LossConfig
from kdcam.losses.lsoftmax import LSoftmaxConfig
from kdcam.losses.max_entropy import MaxEntropyConfig
from kdcam.losses.mutual_channel import MutualChannelConfig
from kdcam.losses.normface import NormFaceConfig
from kdcam.losses.nst import NstConfig
from kdcam.losses.pkt import PktConfig
from kdcam.losses.prototypical import PrototypicalConfig
from kdcam.losses.review_kd import ReviewKdConfig
from kdcam.losses.rkd import RkdConfig
from kdcam.losses.similarity_preserving import SimilarityPreservingConfig
from kdcam.losses.truncated_generalized_cross_entropy import TruncatedGeneralizedCrossEntropyConfig
from kdcam.losses.vid import VidConfig

LOSSES: dict[str, type[LossConfig]] = {
    "anchor": AnchorLossConfig,
    "arcface": ArcFaceConfig,
    "asoftmax": ASoftmaxConfig,
    "attention_transfer": AttentionTransferConfig,
    "binary_cross_entropy": BinaryCrossEntropyConfig,
    "caam_cam": CaamCamConfig,
    "cam": CamLossConfig,
    "cam_kd": CamKdConfig,
    "cat_kd": CatKdConfig,
    "center": CenterConfig,
    "channel_correlation": ChannelCorrelationConfig,
    "correlation_congruence": CorrelationCongruenceConfig,
    "cosface": CosFaceConfig,
    "crd": CrdConfig,
    "cross_entropy": CrossEntropyConfig,
    "dist": DistConfig,
    "dkd": DkdConfig,
    "explanation_match": ExplanationMatchConfig,
    "fical": FicalConfig,
    "fitnet": FitnetConfig,
    "focal": FocalConfig,
    "generalized_cross_entropy": GeneralizedCrossEntropyConfig,
    "gradient_boosting_cross_entropy": GradientBoostingCrossEntropyConfig,
    "guided_complement_entropy": GuidedComplementEntropyConfig,
    "hnc_kd": HncKdConfig,
    "hnc_mse": HncMseConfig,
    "ical": IcalConfig,
    "include_exclude": IncludeExcludeConfig,
    "kd": KdConfig,
    "kl_to_clean": KlToCleanConfig,
    "lgm": LgmConfig,
    "lsoftmax": LSoftmaxConfig,
    "max_entropy": MaxEntropyConfig,
    "mutual_channel": MutualChannelConfig,
    "normface": NormFaceConfig,
    "nst": NstConfig,
    "pkt": PktConfig,
    "prototypical": PrototypicalConfig,
    "review_kd": ReviewKdConfig,
    "rkd": RkdConfig,
    "sigmoid_focal": SigmoidFocalConfig,
    "similarity_preserving": SimilarityPreservingConfig,
    "truncated_generalized_cross_entropy": TruncatedGeneralizedCrossEntropyConfig,
    "vid": VidConfig,
}

__all__ = ["LOSSES"]
