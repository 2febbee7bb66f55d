"""A network with the classes, channels and image size of the data."""

from collections.abc import Sequence

from kdcam.data.dataset_parts import DataSummary
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier, Task
from kdcam.models.model_config import ModelConfig


def build_for_data(
    config: ModelConfig, summary: DataSummary, task: Task, *, label_names: Sequence[str]
) -> Classifier:
    """Return what `build_classifier` builds for data and task; random weights come from torch's default generator.

    ``label_names`` are what the network knows its classes by; none where it has learned them elsewhere.
    """
    return build_classifier(
        config,
        num_classes=len(summary.label_names),
        in_channels=summary.channels,
        image_size=summary.image_size,
        label_names=label_names,
        task=task,
    )


__all__ = ["build_for_data"]
