"""Pictures made worse in thirteen ways and five severities, each image always in the same manner.

These are kdcam's own corruptions with strengths of its own choice (`CORRUPTIONS`), in the spirit of Hendrycks and
Dietterich 2019, arXiv 1903.12261, but none of that paper's images: accuracies under them compare among models measured
here, never with published mean corruption errors. For those read the published files, as
`kdcam.evaluation.robustness.corrupted_sets` does.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from kdcam.corruptions.corruption_functions import (
    brightness,
    contrast,
    fog,
    gaussian_blur,
    gaussian_noise,
    impulse_noise,
    jpeg,
    motion_blur,
    pixelate,
    rotate,
    saturation,
    shot_noise,
    translate,
)
from kdcam.corruptions.corruption_list import CORRUPTIONS, corruptions_for
from kdcam.errors import DataError, RecipeError
from kdcam.settings.messages import did_you_mean, listed

_WITHOUT_DRAWS: Mapping[str, Callable[[Tensor, float], Tensor]] = MappingProxyType(
    {
        "brightness": brightness,
        "contrast": contrast,
        "gaussian_blur": gaussian_blur,
        "jpeg": jpeg,
        "pixelate": pixelate,
        "saturation": saturation,
    }
)
_WITH_DRAWS: Mapping[str, Callable[[Tensor, float, Sequence[np.random.Generator]], Tensor]] = (
    MappingProxyType(
        {
            "fog": fog,
            "gaussian_noise": gaussian_noise,
            "impulse_noise": impulse_noise,
            "motion_blur": motion_blur,
            "rotate": rotate,
            "shot_noise": shot_noise,
            "translate": translate,
        }
    )
)


def corrupt(name: str, images: Tensor, *, severity: int, indices: Tensor, seed: int = 0) -> Tensor:
    """Return images (N, C, H, W) in [0, 1] after the corruption ``name``.

    What is drawn for an image (noise, a direction, clouds) follows from (seed, name, index) alone: it is the same
    whatever the other images of the batch, on every device, and at every severity, so that only the strength changes.

    Args:
        name: one of `CORRUPTIONS`.
        images: (N, C, H, W) floats in [0, 1], of 1 or 3 channels and any size.
        severity: 1 (mild) to 5 (strong).
        indices: (N,) int64, at least 0: the positions of the images in their part of the data.
        seed: at least 0.

    Raises ``RecipeError`` for an unknown name, ``DataError`` for a corruption of colours of gray pictures,
    ``ValueError`` for images outside [0, 1] and for settings that cannot be.
    """
    check_corruption_names([name], channels=images.shape[1] if images.ndim == 4 else 3)
    _check(images, indices, seed)
    strength = CORRUPTIONS[name].strength(severity)
    clean = images.contiguous()
    if len(clean) == 0:
        return clean.clone()
    if name in _WITHOUT_DRAWS:
        return _WITHOUT_DRAWS[name](clean, strength).clamp(0, 1)
    stream = crc32(name.encode())  # a number of the name's own, wherever it stands in the table
    generators = [np.random.default_rng((seed, stream, index)) for index in indices.tolist()]
    return _WITH_DRAWS[name](clean, strength, generators).clamp(0, 1)


def check_corruption_names(names: Sequence[str], *, channels: int) -> None:
    """Raise ``RecipeError`` for a name that is no corruption, ``DataError`` for one that gray pictures cannot have."""
    for name in names:
        if name not in CORRUPTIONS:
            raise RecipeError(
                f"corruptions: unknown name {name!r}{did_you_mean(name, CORRUPTIONS)}; known names: "
                f"{listed(CORRUPTIONS)}"
            )
        if name not in corruptions_for(channels):
            raise DataError(
                f"corruptions: {name!r} does nothing to gray pictures (1 channel); take some of "
                f"{listed(corruptions_for(channels))}"
            )


def _check(images: Tensor, indices: Tensor, seed: int) -> None:
    if images.ndim != 4 or not images.is_floating_point() or images.shape[1] not in (1, 3):
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; wanted floats (N, C, H, W), C 1 or 3"
        )
    if min(images.shape[-2:]) < 2:
        raise ValueError(f"images are {images.shape[-2]} x {images.shape[-1]} pixels; wanted at least 2 x 2")
    if indices.shape != images.shape[:1] or indices.is_floating_point():
        raise ValueError(
            f"indices are {indices.dtype} of shape {tuple(indices.shape)}; wanted one whole number for each "
            f"of {len(images)} images"
        )
    if seed < 0 or bool((indices < 0).any()):
        raise ValueError(f"seed is {seed}, the least index {indices.min()}; wanted both at least 0")
    low, high = torch.aminmax(images) if images.numel() else (images.new_zeros(()), images.new_ones(()))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images lie between {low:.4g} and {high:.4g}; wanted [0, 1], not normalised")


__all__ = ["check_corruption_names", "corrupt"]
