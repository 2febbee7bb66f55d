"""The [model] and [init] tables of a recipe: a network, what it starts from, and which of its stages learn when."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from kdcam.settings.validation import Positive, Settings

USUAL_REDUCTION = 16  # Hu et al. 2018 (arXiv 1709.01507), section 6.4
# Wang et al. 2018 (arXiv 1801.05599), happynear/AMSoftmax; 64 is usual for many identities.
USUAL_HEAD_SCALE = 30.0
# Of what a network has: classes, channels, pixels a side; kdcam's choice, beyond all in use.
MOST_SIZE = 1_000_000

HeadKind = Literal["linear", "cosine", "unit-weight", "gaussian"]
Rate = Annotated[float, Field(ge=0, lt=1)]
Mean = Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(min_length=1)]
Std = Annotated[tuple[Positive, ...], Field(min_length=1)]


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
    import timm  # here: it takes seconds

    bare = name.removeprefix("torchvision:")
    if timm.is_model(bare):
        return f"timm has this one too: name = {bare!r}"
    return "`kdcam models list` prints them (kdcam:resnet20, resnet18)"


def _checked_frozen(found: Any) -> Any:
    whole = isinstance(found, int) and not isinstance(found, bool)
    if found in ("none", "all") or (whole and found >= 1):
        return found
    raise ValueError(f'found {found!r}; must be "none", "all" or a number of stages, at least 1')


def _not_blank(found: Any) -> Any:
    if isinstance(found, str) and not found.strip():
        raise ValueError(
            "found an empty text; name a run folder, a file of weights, a network with published weights or "
            "package:NAME (--from CHECKPOINT)"
        )
    return found


class InitConfig(Settings):
    """A trained network to start from, and how carefully it is changed."""

    checkpoint: Annotated[str, BeforeValidator(_not_blank)] = Field(
        description="run folder, .safetensors or .pth file, name of a timm or torchvision network with published "
        "weights, or package:NAME of a Python package that holds weights"
    )
    frozen: Annotated[
        Literal["none", "all"] | Annotated[int, Field(ge=1)], BeforeValidator(_checked_frozen)
    ] = Field(
        "none",
        description="what stays as it is: a number n of stages, the stem and the first n; all: everything but the "
        "classifier (a linear probe); none: nothing. Of a torchvision network the stages are the parts that it is made "
        "of (VGG: up to each pooling; MobileNet: each block), which need not be timm's of the same name: "
        "--dry-run tells how many parameters are frozen",
    )
    unfreeze: float = Field(
        1.0, gt=0, le=1, description="fraction of the run from which what was frozen learns too; 1: never"
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor of the learning rate from one group of layers to the one before it; the classifier has "
        "the recipe's rate",
    )

    @property
    def is_probe(self) -> bool:
        """Whether the classifier alone learns, throughout the run."""
        return self.frozen == "all" and self.unfreeze == 1

    def in_words(self) -> str:
        """Return what a run starts from and what of it stays or moves less, for a line of text."""
        facts = [f"starts from {self.checkpoint}"]
        if self.frozen != "none":
            held = (
                "all but the classifier" if self.frozen == "all" else f"stem and {self.frozen} of its stages"
            )
            until = f" for {self.unfreeze:g} of the run" if self.unfreeze < 1 else ""
            facts.append(f"{held} frozen{until}")
        if self.layer_decay < 1:
            facts.append(f"layer decay {self.layer_decay:g}")
        return ", ".join(facts)

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> Self:
        if self.frozen == "none" and self.unfreeze != 1:
            raise ValueError(
                f'unfreeze = {self.unfreeze:g}, but nothing is frozen; set frozen to a number of stages or "all", or '
                "leave unfreeze out"
            )
        if self.is_probe and self.layer_decay != 1:
            raise ValueError(
                f'layer_decay = {self.layer_decay:g} with frozen = "all", where the classifier alone learns; leave '
                "layer_decay out, or set unfreeze below 1"
            )
        return self


__all__ = [
    "MOST_SIZE",
    "USUAL_HEAD_SCALE",
    "HeadKind",
    "InitConfig",
    "Mean",
    "ModelConfig",
    "Std",
]
