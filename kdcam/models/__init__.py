"""Networks: any timm or torchvision classifier by name, and the small ones of the distillation literature.

Importing this package offers kdcam's networks to timm as ``kdcam_<name>``, without importing timm.
"""

from kdcam.models.build import build_classifier
from kdcam.models.catalogue import has_exact_cam, list_models
from kdcam.models.classifier import (
    Classifier,
    Outputs,
    Preprocessing,
    TeacherOutputs,
    teacher_outputs,
)
from kdcam.models.inspection import check_cam, widths
from kdcam.models.model_config import ModelConfig
from kdcam.models.networks.timm_registration import offer_to_timm

offer_to_timm()

__all__ = [
    "Classifier",
    "ModelConfig",
    "Outputs",
    "Preprocessing",
    "TeacherOutputs",
    "build_classifier",
    "check_cam",
    "has_exact_cam",
    "list_models",
    "teacher_outputs",
    "widths",
]
