"""What attacks need: classes for each loss, a package for autoattack; read without torch."""

from collections.abc import Mapping
from typing import Literal

LossName = Literal["cross_entropy", "margin", "dlr"]
"""What an attack may be asked to raise."""

MIN_CLASSES: Mapping[str, int] = {"cross_entropy": 2, "margin": 2, "dlr": 3, "targeted_dlr": 4}
"""The fewest classes of each loss: the DLR's scale reaches to the third largest logit, the targeted one's to the fourth
(Croce & Hein 2020, equations 6 and 7)."""

LOSS_WORDS: Mapping[str, str] = {
    "cross_entropy": "cross-entropy",
    "margin": "margin loss",
    "dlr": "DLR loss",
    "targeted_dlr": "targeted DLR loss",
}
"""The same losses in words, for messages and reports."""

MISSING_AUTOATTACK = (
    "autoattack: the package pyautoattack is not installed; "
    'run `pip install "kdcam[autoattack]"`, or take standard'
)
"""What is said where the extra is not installed."""

_INSTEAD = {
    "dlr": "; take cw-margin, or standard, which picks by itself",
    "targeted_dlr": "; take apgd-dlr (3 classes) or cw-margin (2), or standard, which picks by itself",
}


def too_few_classes(loss: str, classes: int) -> str | None:
    """Return in words that a loss needs more classes, and what to take instead; None: there are enough."""
    needed = MIN_CLASSES[loss]
    if classes >= needed:
        return None
    instead = _INSTEAD.get(loss, "") if classes > 1 else ""
    return f"the {LOSS_WORDS[loss]} needs at least {needed} classes, found {classes}{instead}"


__all__ = ["LOSS_WORDS", "MIN_CLASSES", "MISSING_AUTOATTACK", "LossName", "too_few_classes"]
