"""The [init] table of a recipe: what a fine-tuning starts from, and which of its stages learn when; without torch."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from kdcam.settings.frozen_settings import Settings


def _frozen_stages(found: Any) -> Any:
    whole = isinstance(found, int) and not isinstance(found, bool)
    if found in ("none", "all") or (whole and found >= 1):
        return found
    raise ValueError(f'found {found!r}; must be "none", "all" or a number of stages, at least 1')


def _named(found: Any) -> Any:
    if isinstance(found, str) and not found.strip():
        raise ValueError(
            "found an empty text; name a run folder, a file of weights, a network with published weights or "
            "package:NAME (--from CHECKPOINT)"
        )
    return found


class InitConfig(Settings):
    """A trained network to start from, and how carefully it is changed."""

    checkpoint: Annotated[str, BeforeValidator(_named)] = Field(
        description="run folder, .safetensors or .pth file, name of a timm or torchvision network with published "
        "weights, or package:NAME of a Python package that holds weights"
    )
    frozen: Annotated[
        Literal["none", "all"] | Annotated[int, Field(ge=1)], BeforeValidator(_frozen_stages)
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


__all__ = ["InitConfig"]
