"""The optimiser of a recipe.

The names sgd and adamw mean torch's, so that an ordinary run need not import timm; every other name is timm's
(timm.optim).
"""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Discriminator, Field, Tag, model_validator
from torch import nn

from kdcam.errors import RecipeError
from kdcam.settings.messages import did_you_mean
from kdcam.settings.validation import NonNegative, Positive, Settings

Beta = Annotated[float, Field(ge=0, lt=1)]


class SgdConfig(Settings):
    """torch.optim.SGD as the literature uses it: no Nesterov momentum, decay on every parameter."""

    name: Literal["sgd"] = "sgd"
    lr: Positive = 0.1
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: NonNegative = 5e-4
    decay_norm_and_bias: bool = True

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov = true needs a momentum above 0")
        return self

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the optimiser of these parameter groups."""
        return LeanSgd(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)


class AdamWConfig(Settings):
    """torch.optim.AdamW."""

    name: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    weight_decay: NonNegative = 0.05
    decay_norm_and_bias: bool = False

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the optimiser of these parameter groups."""
        return LeanAdamW(groups, lr=self.lr, betas=self.betas)


class TimmOptimizerConfig(Settings):
    """Any optimiser of timm.optim by its name there, with timm's own defaults for what is not named here."""

    name: str
    lr: Positive
    weight_decay: NonNegative = 0.0
    decay_norm_and_bias: bool = False
    options: dict[str, bool | int | float | str | tuple[float, ...]] = Field(
        {}, description="further arguments of the optimiser, as timm names them"
    )

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the optimiser of these parameter groups.

        Raises ``RecipeError`` for a name that timm does not have, for one that needs second derivatives, and for
        options that the optimiser does not take.
        """
        # here: it takes seconds
        from timm.optim import create_optimizer_v2, list_optimizers  # type: ignore[attr-defined]  # not in its __all__

        known = [str(name) for name in list_optimizers()]
        if self.name not in known:
            hint = did_you_mean(self.name, ["sgd", "adamw", *known])
            raise RecipeError(
                f"optimizer.name: found {self.name!r}; must be sgd, adamw or a name of timm.optim{hint}"
            )
        for key in self.options:
            if key in inspect.signature(create_optimizer_v2).parameters and key not in (
                "momentum",
                "foreach",
            ):
                raise RecipeError(
                    f"optimizer.options: found {key!r}, which the keys name, lr, weight_decay and "
                    "decay_norm_and_bias decide; remove it"
                )
        try:
            options: dict[str, Any] = dict(self.options)
            optimizer: torch.optim.Optimizer = create_optimizer_v2(
                groups, opt=self.name, lr=self.lr, **options
            )
        except (TypeError, ValueError, AssertionError) as error:
            raise RecipeError(
                f"optimizer.options: timm's {self.name} does not take {self.options!r}: {error}"
            ) from error
        if getattr(optimizer, "is_second_order", False):
            raise RecipeError(
                f"optimizer.name: {self.name} needs second derivatives of the loss, which kdcam does not take; "
                "take adamw or another one"
            )
        return optimizer


def _optimizer_tag(value: Any) -> str | None:
    name = value.get("name", "sgd") if isinstance(value, dict) else getattr(value, "name", None)
    if name is None:
        return None  # not a table
    return name if name in ("sgd", "adamw") else "timm"


OptimizerConfig = Annotated[
    Annotated[SgdConfig, Tag("sgd")]
    | Annotated[AdamWConfig, Tag("adamw")]
    | Annotated[TimmOptimizerConfig, Tag("timm")],
    Discriminator(_optimizer_tag),
]

# torch wraps these methods to keep dynamo out of them, and each wrapper imports dynamo at its first call,
# which takes as long as importing torch itself (1.4 s). Eager training needs the plain methods only.
_PLAIN = {
    name: inspect.unwrap(getattr(torch.optim.Optimizer, name))
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
}


# Why torch's own wrappers are left out: docs/decisions/002.
class _Lean:
    add_param_group = _PLAIN["add_param_group"]
    zero_grad = _PLAIN["zero_grad"]
    state_dict = _PLAIN["state_dict"]
    load_state_dict = _PLAIN["load_state_dict"]


class LeanSgd(_Lean, torch.optim.SGD):
    """torch.optim.SGD that does not import torch's compiler."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class LeanAdamW(_Lean, torch.optim.AdamW):
    """torch.optim.AdamW that does not import torch's compiler."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


# Why parameters of losses are not decayed: docs/decisions/008.
def build_optimizer(
    config: SgdConfig | AdamWConfig | TimmOptimizerConfig,
    model: nn.Module,
    objective: nn.Module | None = None,
    *,
    scales: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """Return the optimiser over the trainable parameters of a model and of its losses.

    Parameters of one dimension (biases, BatchNorm) are decayed only with ``decay_norm_and_bias``; those of losses
    (class centres) never: decay would move them while their term is off, and pull centres to 0 afterwards.

    ``scales``: factor of the learning rate of a parameter by its name in the model, such as
    `kdcam.models.layer_groups.layer_scales`; None: 1 for all, as for those without one. The groups of the largest
    factor come first.
    """
    own = {} if scales is None else scales
    trainable = [(own.get(name, 1.0), p) for name, p in model.named_parameters() if p.requires_grad]
    learned = [p for p in objective.parameters() if p.requires_grad] if objective is not None else []
    groups: list[dict[str, Any]] = []
    for scale in sorted({1.0, *(scale for scale, _ in trainable)}, reverse=True):
        alike = [p for one, p in trainable if one == scale]
        decayed = [p for p in alike if config.decay_norm_and_bias or p.ndim > 1]
        spared = [p for p in alike if not (config.decay_norm_and_bias or p.ndim > 1)]
        rate = {} if scale == 1 else {"lr": config.lr * scale}
        groups += [
            {"params": decayed, "weight_decay": config.weight_decay, **rate},
            {"params": spared + (learned if scale == 1 else []), "weight_decay": 0.0, **rate},
        ]
    return config.build([group for group in groups if group["params"]])


__all__ = [
    "AdamWConfig",
    "LeanAdamW",
    "LeanSgd",
    "OptimizerConfig",
    "SgdConfig",
    "TimmOptimizerConfig",
    "build_optimizer",
]
