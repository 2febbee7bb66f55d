"""The [model] table of a recipe."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from kdcam.models.heads import USUAL_HEAD_SCALE, HeadKind
from kdcam.settings.frozen_settings import Positive, Settings

USUAL_REDUCTION = 16  # Hu et al. 2018 (arXiv 1709.01507), section 6.4

Rate = Annotated[float, Field(ge=0, lt=1)]
Mean = Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(min_length=1)]
Std = Annotated[tuple[Positive, ...], Field(min_length=1)]


MOST_SIZE = (
    1_000_000  # of what a network has: classes, channels, pixels a side; kdcam's choice, beyond all in use
)


class ModelConfig(Settings):
    """A network and what it starts from."""

    name: str = Field(
        "kdcam:resnet20", description="kdcam:NAME, torchvision:NAME, or a timm name (`kdcam models list`)"
    )
    pretrained: bool = Field(
        False, description="start from the source's published weights, downloaded if need be"
    )
    weights: str | None = Field(
        None, description="start from a local .safetensors file, a run folder or a folder in timm's layout"
    )
    mean: Mean | None = Field(
        None, description="of the input, one a channel, images in [0, 1]; none: the weights' own, else 0.5"
    )
    std: Std | None = Field(
        None, description="of the input, one a channel; none: the weights' own, else 0.25"
    )
    drop_rate: Rate | None = Field(None, description="dropout before the classifier; none: the network's own")
    drop_path_rate: Rate | None = Field(None, description="stochastic depth; none: the network's own")
    feature_channels: int | None = Field(
        None,
        ge=1,
        le=MOST_SIZE,
        description="channels that a 1x1 convolution (BatchNorm and ReLU behind it) brings the last map to",
    )
    channel_attention: bool = Field(
        False, description="a squeeze-and-excitation block between the last map and the classifier"
    )
    attention_reduction: int = Field(
        USUAL_REDUCTION, ge=1, description="channels to hidden units in that block"
    )

    head: HeadKind = Field(
        "linear",
        description="the classifier: linear, cosine (angles alone), unit-weight (SphereFace), gaussian (L-GM)",
    )
    scale: float = Field(
        USUAL_HEAD_SCALE, gt=0, allow_inf_nan=False, description="factor of the cosine head's logits"
    )

    @property
    def has_neck(self) -> bool:
        """Whether something stands between the last map and the classifier."""
        return self.channel_attention or self.feature_channels is not None

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.pretrained and self.weights is not None:
            raise ValueError(
                f"pretrained = true and weights = {self.weights!r} are two starting points; leave one out"
            )
        if self.pretrained and self.name.startswith("kdcam:"):
            raise ValueError(
                f"pretrained = true, but {self.name} has no published weights; set pretrained = false or "
                "name a local file in weights"
            )
        return self

    @model_validator(mode="after")
    def _head_fits(self) -> Self:
        if self.head != "linear" and self.name.startswith("torchvision:"):
            raise ValueError(
                f"head = {self.head!r} goes with kdcam: and timm networks, not {self.name}; {_instead(self.name)}"
            )
        if self.scale != USUAL_HEAD_SCALE and self.head != "cosine":
            raise ValueError(
                f'scale = {self.scale:g}, but head = {self.head!r} has none; set head = "cosine", or leave it out'
            )
        return self

    @model_validator(mode="after")
    def _neck_fits(self) -> Self:
        if self.has_neck and self.name.startswith("torchvision:"):
            raise ValueError(
                f"channel_attention and feature_channels go with kdcam: and timm networks, not {self.name}; "
                f"{_instead(self.name)}"
            )
        if self.attention_reduction != USUAL_REDUCTION and not self.channel_attention:
            raise ValueError(
                f"attention_reduction = {self.attention_reduction}, but there is no attention block; set "
                "channel_attention = true, or leave it out"
            )
        return self


def _instead(name: str) -> str:
    """Return what to take in place of a torchvision network."""
    import timm

    bare = name.removeprefix("torchvision:")
    if timm.is_model(bare):
        return f"timm has this one too: name = {bare!r}"
    return "`kdcam models list` prints them (kdcam:resnet20, resnet18)"


__all__ = ["MOST_SIZE", "Mean", "ModelConfig", "Std"]
