"""Activation maps: how they are computed, what they point at, what they look like."""

from kdcam.cam import maps

__all__ = ["maps"]
