"""Activation maps: how they are computed, normalised, compared and drawn."""

from kdcam.cam import maps

__all__ = ["maps"]
