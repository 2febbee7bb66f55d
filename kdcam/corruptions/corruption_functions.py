"""The corruptions as functions of images (N, C, H, W) and a strength: noise, blur, colour, digital, geometry.

What is drawn comes from a generator of each image's own, on the CPU, so that neither the device nor the other images
of a batch matter. The width of blurs grows with the side of the picture, from 19 pixels on.
"""

import math
from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

_KERNEL_REACH = 3  # standard deviations that the Gaussian kernel spans to either side
_LEAST_BLUR_UNIT = 0.6  # pixels, kdcam's choice: below it a mild blur would leave 8 x 8 pictures as they are
_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # of gray, as ITU-R BT.601 weighs them
_GRAIN = 2**20  # to the unit of brightness, when a mean is taken
_FOG_COLOUR = 0.9  # kdcam's choice: light gray, so that a white picture changes too
_FOG_CELLS = (2, 4, 8, 16)  # kdcam's choice: along a side; each grid counts half as much as the one before
_THINNEST_FOG = 0.5  # kdcam's choice: opacity where it is thinnest, as a share of where it is thickest


def gaussian_noise(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return images plus normal noise of standard deviation ``strength``, drawn for each value."""
    normal = _drawn(images, generators, lambda rng, shape: rng.standard_normal(shape, dtype=np.float32))
    return images + strength * normal


def shot_noise(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return what a sensor counts that sees ``strength`` photons at full brightness: Poisson, mean the image."""
    expected = images.cpu().double().numpy() * strength  # in this order: Apple's GPUs have no float64
    counts = np.stack([rng.poisson(rates) for rng, rates in zip(generators, expected, strict=True)])
    return torch.from_numpy(counts).to(images) / strength


def impulse_noise(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return images with a share ``strength`` of their values, drawn one by one, set to 0 or to 1."""
    uniform = _drawn(images, generators, lambda rng, shape: rng.random(shape, dtype=np.float32))
    peppered = torch.where(uniform < strength / 2, 0.0, images)
    return torch.where(uniform > 1 - strength / 2, 1.0, peppered)


def _drawn(
    images: Tensor,
    generators: Sequence[np.random.Generator],
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray],
) -> Tensor:
    shape = tuple(images.shape[1:])
    return torch.from_numpy(np.stack([draw(rng, shape) for rng in generators])).to(images)


def gaussian_blur(images: Tensor, strength: float) -> Tensor:
    """Return images under a Gaussian of standard deviation ``strength`` / 32 of the shorter side."""
    sigma = strength * _blur_unit(images)
    radius = max(1, math.ceil(_KERNEL_REACH * sigma))
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
    total = sum(weights)
    kernel = [weight / total for weight in weights]
    upright = _smoothed(pad(images, (0, 0, radius, radius), mode="replicate"), kernel, dim=2)
    return _smoothed(pad(upright, (radius, radius, 0, 0), mode="replicate"), kernel, dim=3)


def motion_blur(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return the mean of images moved along a line of length ``strength`` / 32 of the shorter side.

    Each image has a direction of its own.
    """
    length = strength * _blur_unit(images)
    steps = math.ceil(length) + 1  # at most a pixel apart
    angles = torch.tensor([math.pi * rng.random() for rng in generators], dtype=torch.float64)
    sine, cosine = (values.to(images)[:, None, None] for values in (angles.sin(), angles.cos()))
    rows, columns = pixel_centres(images)
    total = torch.zeros_like(images)
    for offset in np.linspace(-length / 2, length / 2, steps).tolist():
        total += bilinear_samples(images, rows + offset * sine, columns + offset * cosine)
    return total / steps


def _blur_unit(images: Tensor) -> float:
    return max(_LEAST_BLUR_UNIT, min(images.shape[-2:]) / 32)


def _smoothed(padded: Tensor, kernel: Sequence[float], *, dim: int) -> Tensor:
    # Not by a convolution: in that an image's values depend on how many others are computed with it.
    size = padded.shape[dim] - len(kernel) + 1
    total = padded.narrow(dim, 0, size) * kernel[0]
    for start, weight in enumerate(kernel[1:], start=1):
        total += padded.narrow(dim, start, size) * weight
    return total


def brightness(images: Tensor, strength: float) -> Tensor:
    """Return images with ``strength`` added to every value."""
    return images + strength


def contrast(images: Tensor, strength: float) -> Tensor:
    """Return images drawn to their own mean; 1: as they were, 0: one gray."""
    # Whole numbers: the order of additions depends on the size of the batch and does not matter to them.
    grains = (images * _GRAIN).round().long().sum((1, 2, 3), keepdim=True)
    mean = grains.to(images) / (_GRAIN * images[0].numel())
    return mean + strength * (images - mean)


def gray_of(images: Tensor) -> Tensor:
    """Return the gray (N, 1, H, W) of colour images (N, 3, H, W), as Pillow weighs it."""
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    gray: Tensor = _RED * red + _GREEN * green + _BLUE * blue
    return gray


def saturation(images: Tensor, strength: float) -> Tensor:
    """Return images (N, 3, H, W) drawn to gray; 1: as they were, 0: no colour is left."""
    gray = gray_of(images)
    return gray + strength * (images - gray)


def fog(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return images behind clouds: opacity ``strength`` where they are thickest, half of it where thinnest."""
    clouds = _clouds(images, generators)
    low, high = clouds.amin((1, 2, 3), keepdim=True), clouds.amax((1, 2, 3), keepdim=True)
    thickness = (clouds - low) / (high - low).clamp(min=1e-6)  # a picture of one pixel has no range
    opacity = strength * (_THINNEST_FOG + (1 - _THINNEST_FOG) * thickness)
    return images + opacity * (_FOG_COLOUR - images)


def _clouds(images: Tensor, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return smooth random fields (N, 1, H, W): uniform grids from coarse to fine, laid over each other."""
    size = images.shape[-2:]
    total = torch.zeros(len(images), 1, *size, dtype=images.dtype, device=images.device)
    for octave, cells in enumerate(_FOG_CELLS):
        drawn = np.stack([rng.random((1, cells, cells), dtype=np.float32) for rng in generators])
        grid = torch.from_numpy(drawn).to(images)
        total += interpolate(grid, size, mode="bilinear", align_corners=True) / 2**octave
    return total


def pixelate(images: Tensor, strength: float) -> Tensor:
    """Return images as square cells of one colour each, ``strength`` cells a pixel along a side."""
    height, width = images.shape[-2:]
    size = (_cells(height, strength), _cells(width, strength))
    # Antialiased rather than the mean of a cell: with that, half the pixels changed a picture less than 0.6 of them.
    cells = interpolate(images, size, mode="bilinear", antialias=True)
    return interpolate(cells, (height, width), mode="nearest-exact")


def jpeg(images: Tensor, strength: float) -> Tensor:
    """Return images after a JPEG file of quality ``strength``; its last bits may differ between builds of libjpeg."""
    rows = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    stored = np.stack([_jpeg_file_pixels(row, round(strength)) for row in rows])
    return torch.from_numpy(stored).permute(0, 3, 1, 2).to(images).contiguous() / 255


def _cells(side: int, share: float) -> int:
    return max(1, min(side - 1, round(share * side)))


def _jpeg_file_pixels(row: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image  # lazy: attacks and array data go without pictures

    file = BytesIO()
    Image.fromarray(row[:, :, 0] if row.shape[2] == 1 else row).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file)).reshape(row.shape)


def translate(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return images moved by ``strength`` of the shorter side, each in a direction of its own."""
    angles = torch.tensor([2 * np.pi * rng.random() for rng in generators], dtype=torch.float64)
    distance = strength * min(images.shape[-2:])
    rows, columns = pixel_centres(images)
    return bilinear_samples(
        images,
        rows + (distance * angles.sin()).to(images)[:, None, None],
        columns + (distance * angles.cos()).to(images)[:, None, None],
    )


def rotate(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return images turned about their middle by ``strength`` degrees, each one way or the other."""
    signs = torch.tensor([1.0 if rng.random() < 0.5 else -1.0 for rng in generators], dtype=torch.float64)
    turns = signs * np.deg2rad(strength)
    sine, cosine = (values.to(images)[:, None, None] for values in (turns.sin(), turns.cos()))
    rows, columns = pixel_centres(images)
    return bilinear_samples(images, cosine * rows + sine * columns, cosine * columns - sine * rows)


def bilinear_samples(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images (N, C, H, W) read, bilinearly, at points in pixels from the middle of the picture.

    ``rows`` and ``columns`` are (N, H, W) or broadcast to it; points outside give the nearest border pixel.
    """
    height, width = images.shape[-2:]
    points = torch.broadcast_tensors(columns * (2 / width), rows * (2 / height))
    grid = torch.stack(points, dim=-1).expand(len(images), -1, -1, -1)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def pixel_centres(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (1, H, 1) and columns (1, 1, W) of pixel centres, from the middle of the picture."""
    height, width = images.shape[-2:]
    rows = torch.arange(height).to(images) - (height - 1) / 2
    columns = torch.arange(width).to(images) - (width - 1) / 2
    return rows[None, :, None], columns[None, None, :]


__all__ = [
    "bilinear_samples",
    "brightness",
    "contrast",
    "fog",
    "gaussian_blur",
    "gaussian_noise",
    "gray_of",
    "impulse_noise",
    "jpeg",
    "motion_blur",
    "pixel_centres",
    "pixelate",
    "rotate",
    "saturation",
    "shot_noise",
    "translate",
]
