"""Attacks on a classifier that takes images in [0, 1].

Every attack raises a loss of the given labels (by default the cross-entropy; of rows: the binary cross-entropy summed
over the classes) and returns images in [0, 1] within ``eps`` of the clean ones; eps and alpha are in [0, 1] pixel
units (8/255, not 8), whatever normalisation the network does inside.
Attacks compute in float32 without autocast, put the network into eval mode and each submodule back
into its own mode, leave no gradient on parameters and no trace in torch's random state, and work under
``no_grad`` and ``inference_mode``. The loss is summed, not averaged, and random choices follow from (seed,
index of the image): what becomes of an image does not depend on the rest of its batch.

- `fgsm`, `bim`, `pgd`, `mim`: gradient steps of a given length on the cross-entropy; `cw_margin`: on the margin.
- `apgd`, `apgd_targeted`: steps that find their length; each image drops out of the batch when it is fooled.
- `square`: random search, no gradient.
- `input_gradient`: the gradient of each image's cross-entropy, which these steps follow.
- `CountedClassifier`: wrapped around a classifier, tells how many images went through it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdcam.attacks.attacked_network import CountedClassifier, input_gradient
    from kdcam.attacks.auto_pgd import apgd, apgd_targeted
    from kdcam.attacks.gradient_steps import bim, cw_margin, fgsm, mim, pgd
    from kdcam.attacks.square_attack import square

# Name -> module. Imported at first use: budgets and settings of attacks in this room are read without torch.
_HOMES = {
    "CountedClassifier": "attacked_network",
    "apgd": "auto_pgd",
    "apgd_targeted": "auto_pgd",
    "bim": "gradient_steps",
    "cw_margin": "gradient_steps",
    "fgsm": "gradient_steps",
    "input_gradient": "attacked_network",
    "mim": "gradient_steps",
    "pgd": "gradient_steps",
    "square": "square_attack",
}


def __getattr__(name: str) -> "Any":
    if name not in _HOMES:
        raise AttributeError(f"module 'kdcam.attacks' has no attribute {name!r}")
    return getattr(import_module(f"kdcam.attacks.{_HOMES[name]}"), name)


__all__ = [
    "CountedClassifier",
    "apgd",
    "apgd_targeted",
    "bim",
    "cw_margin",
    "fgsm",
    "input_gradient",
    "mim",
    "pgd",
    "square",
]
