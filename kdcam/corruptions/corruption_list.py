"""The names of kdcam's corruptions and their strengths at severities 1 to 5; read without torch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(NamedTuple):
    """How strong a corruption is."""

    strengths: tuple[float, float, float, float, float]  # at severity 1 to 5
    unit: str  # what a strength measures
    needs_colour: bool = False  # it does nothing to a gray picture

    def strength(self, severity: int) -> float:
        """Return the strength at a severity of 1 to 5; ``ValueError`` for any other."""
        if severity not in SEVERITIES:
            raise ValueError(f"severity is {severity!r}; wanted a whole number from 1 to 5")
        return self.strengths[severity - 1]


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "gaussian_noise": Corruption(
            (0.04, 0.08, 0.12, 0.17, 0.24), "standard deviation, [0, 1] pixel units"
        ),
        "shot_noise": Corruption((150, 75, 40, 20, 10), "photons that make full brightness"),
        "impulse_noise": Corruption((0.02, 0.05, 0.09, 0.15, 0.23), "share of values set to 0 or 1"),
        "gaussian_blur": Corruption(
            (0.5, 0.75, 1.0, 1.4, 2.0), "standard deviation, 1/32 of the shorter side"
        ),
        "motion_blur": Corruption((2.5, 4.0, 5.5, 7.5, 10.0), "length, 1/32 of the shorter side"),
        "brightness": Corruption((0.08, 0.16, 0.24, 0.34, 0.45), "added to every pixel"),
        "contrast": Corruption((0.75, 0.55, 0.4, 0.25, 0.15), "factor on the distance to the mean"),
        "saturation": Corruption((0.7, 0.5, 0.3, 0.15, 0.0), "factor on the distance to gray", True),
        "pixelate": Corruption((0.75, 0.6, 0.5, 0.4, 0.3), "cells along a side, as a share of its pixels"),
        "jpeg": Corruption((60, 40, 25, 15, 8), "quality as libjpeg counts it"),
        "fog": Corruption((0.25, 0.4, 0.5, 0.6, 0.7), "opacity where the fog is thickest"),
        "translate": Corruption((0.04, 0.08, 0.12, 0.16, 0.2), "distance, share of the shorter side"),
        "rotate": Corruption((6, 12, 18, 25, 35), "angle, degrees"),
    }
)
"""All strengths are kdcam's choice. They are no published benchmark's: errors under them compare with each other, and
not with a mean corruption error (mCE) from the literature."""


def corruptions_for(channels: int) -> tuple[str, ...]:
    """Return the names of the corruptions that change pictures of 1 (gray) or 3 channels, in the table's order."""
    return tuple(name for name, found in CORRUPTIONS.items() if channels > 1 or not found.needs_colour)


__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "corruptions_for"]
