"""The one protocol between networks and losses: Outputs, TeacherOutputs, and the Classifier behind them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from kdcam.cam.maps import class_cams, target_cam
from kdcam.errors import ModelError
from kdcam.models.model_config import ModelConfig
from kdcam.settings.messages import reason_text

Task = Literal["single-label", "multi-label"]

TEACHER_NEEDS = frozenset(
    {
        "teacher.logits",
        "teacher.label_cam",
        "teacher.class_cams",
        "teacher.feature_map",
        "teacher.embedding",
        "teacher.stages",
        "teacher.published_stages",
    }
)
_READ_WITH_STAGES = frozenset({"teacher.stages", "teacher.published_stages"})


class Outputs(NamedTuple):
    """What a network says about a batch of images."""

    logits: Tensor  # (N, K)
    embedding: Tensor  # (N, E), what the classifier reads
    feature_map: Tensor | None  # (N, C, H, W), the last map before global pooling; None where there is none
    weight: Tensor | None  # (K, E), the classifier's parameter, not a copy, or what its `Head` makes of it
    bias: Tensor | None  # (K,)
    stages: tuple[Tensor, ...] = ()  # earlier maps, the last of each size, only when a loss needs them
    channel_attention: Tensor | None = None  # (N, C), only with the channel-attention block
    published_stages: tuple[Tensor, ...] = ()  # those that published tables compare, with ``stages``


class TeacherOutputs(NamedTuple):
    """What some loss needs of a teacher; the rest stays None."""

    logits: Tensor | None = None  # (N, K)
    label_cam: Tensor | None = None  # (N, H, W)
    class_cams: Tensor | None = None  # (N, K, H, W)
    feature_map: Tensor | None = None  # (N, C, H, W)
    embedding: Tensor | None = None  # (N, E)
    stages: tuple[Tensor, ...] = ()
    published_stages: tuple[Tensor, ...] = ()


class Widths(NamedTuple):
    """The sizes of one network's outputs, measured by a probe."""

    embedding: int
    channels: int | None  # of the feature map; None where the network has none
    height: int | None
    width: int | None
    stages: tuple[tuple[int, int, int], ...] = ()  # (C, H, W) of each earlier stage
    published_stages: tuple[tuple[int, int, int], ...] = ()  # (C, H, W) of each


class Preprocessing(NamedTuple):
    """The statistics that images in [0, 1] are normalised with, one number a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Reader(Protocol):
    """Runs a bare network on normalised images and tells its parts apart; one a source of networks."""

    def __call__(self, network: nn.Module, images: Tensor, /, *, stages: bool) -> Outputs:
        """Return all outputs; ``stages``: the earlier maps and the published ones too."""


class Classifier(nn.Module):
    """Any network with its normalisation inside: images in [0, 1] in, logits or all of `Outputs` out."""

    mean: Tensor  # (C, 1, 1)
    std: Tensor  # (C, 1, 1)

    def __init__(
        self,
        network: nn.Module,
        reader: Reader,
        *,
        config: ModelConfig,
        num_classes: int,
        image_size: int,
        preprocessing: Preprocessing,
        label_names: Sequence[str] = (),
        notes: Sequence[str] = (),
        task: Task = "single-label",
    ) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.num_classes = num_classes
        self.in_channels = len(preprocessing.mean)
        self.image_size = image_size
        self.preprocessing = preprocessing
        self.label_names = tuple(label_names)
        self.task = task
        self.notes = tuple(notes)  # what the user should know about how it was built
        self._reader = reader
        self.register_buffer("mean", _per_channel(preprocessing.mean), persistent=False)
        self.register_buffer("std", _per_channel(preprocessing.std), persistent=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits; their numbers where no names are known."""
        return self.label_names or tuple(str(index) for index in range(self.num_classes))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return what logits (..., K) mean: the softmax of one label an image, each class's sigmoid of several."""
        return logits.sigmoid() if self.task == "multi-label" else logits.softmax(-1)

    def normalise(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) in [0, 1] as the network reads them."""
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, C, H, W) in [0, 1]."""
        logits = self.network(self.normalise(images))
        assert isinstance(logits, Tensor)
        return logits

    def outputs(self, images: Tensor, *, stages: bool = False) -> Outputs:
        """Return all that losses read, of images (N, C, H, W) in [0, 1]; its logits equal ``forward``'s.

        ``stages``: the earlier maps and the published ones too; there are none of a network that does not tell them
        (see `widths`).
        """
        return self._reader(self.network, self.normalise(images), stages=stages)


def teacher_outputs(
    classifier: Classifier, images: Tensor, targets: Tensor, needs: frozenset[str]
) -> TeacherOutputs:
    """Return what the losses need of a teacher, without gradient; the caller keeps the teacher in eval mode.

    Args:
        classifier: the teacher.
        images: (N, C, H, W) in [0, 1].
        targets: (N,) int64 labels; for (N, K) float rows the label CAM is the target-weighted sum of maps.
        needs: the losses' needs; only names that begin with ``teacher.`` count, and only these are computed.

    Raises ``ValueError`` for an unknown ``teacher.`` need, ``ModelError`` where a map is needed and there is
    none.
    """
    needs = frozenset(need for need in needs if need.startswith("teacher."))
    if unknown := needs - TEACHER_NEEDS:
        raise ValueError(f"unknown needs {sorted(unknown)}; known: {sorted(TEACHER_NEEDS)}")
    if not needs:
        return TeacherOutputs()
    # no_grad, not inference_mode: inference tensors cannot enter a student's adapters.
    with torch.no_grad():
        if needs == {"teacher.logits"}:
            return TeacherOutputs(logits=classifier(images))
        outputs = classifier.outputs(images, stages=bool(needs & _READ_WITH_STAGES))
        label_cam = all_cams = None
        if "teacher.label_cam" in needs:
            label_cam = target_cam(*_map_and_weight(classifier, outputs), targets)
        if "teacher.class_cams" in needs:
            all_cams = class_cams(*_map_and_weight(classifier, outputs), outputs.bias)
    return TeacherOutputs(
        logits=outputs.logits if "teacher.logits" in needs else None,
        label_cam=label_cam,
        class_cams=all_cams,
        feature_map=outputs.feature_map if "teacher.feature_map" in needs else None,
        embedding=outputs.embedding if "teacher.embedding" in needs else None,
        stages=outputs.stages if "teacher.stages" in needs else (),
        published_stages=outputs.published_stages if "teacher.published_stages" in needs else (),
    )


def why_no_parts(outputs: Outputs) -> str | None:
    """Return why there is nothing to make a CAM of; None where there is."""
    if outputs.feature_map is None:
        return "its last features are tokens or channels-last, no (N, C, H, W) map before a global pooling"
    if outputs.weight is None:
        return "its classifier is no single linear layer"
    return None


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def _map_and_weight(classifier: Classifier, outputs: Outputs) -> tuple[Tensor, Tensor]:
    if outputs.feature_map is None or outputs.weight is None:
        raise ModelError(f"{classifier.config.name!r} has no class activation map: {why_no_parts(outputs)}")
    return outputs.feature_map, outputs.weight


@contextmanager
def translate_image_errors(name: str, shape: tuple[int, ...]) -> Iterator[None]:
    """Turn what the network ``name`` raises on images of ``shape`` (C, H, W) into ``ModelError`` with the way out."""
    try:
        yield
    except (RuntimeError, AssertionError, ValueError) as error:
        size = " x ".join(map(str, shape))
        reason = reason_text(error)
        raise ModelError(
            f"model.name: {name!r} cannot read images of {size}: {reason}; "
            "set another data.image_size, or take a network made for small images (kdcam:resnet20)"
        ) from error


__all__ = [
    "TEACHER_NEEDS",
    "Classifier",
    "Outputs",
    "Preprocessing",
    "Reader",
    "Task",
    "TeacherOutputs",
    "Widths",
    "teacher_outputs",
    "translate_image_errors",
    "why_no_parts",
]
