"""Whether a map points at the object."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def pointing_game(maps: Tensor, boxes: Tensor, image_size: int) -> Tensor:
    """Return for each image whether the highest place of its map lies in its box.

    The map is brought to the image's size first (bilinear); of several equally high pixels the first in
    reading order counts. A constant map, or one that is not finite, points nowhere: a miss.

    Args:
        maps: (N, H, W), of any scale.
        boxes: (N, 4), x0, y0, x1, y1 in pixels of the image, the end exclusive; a pixel is in the box when
            its centre is.
        image_size: side of the square image.

    Returns:
        (N,) bool.

    Source: Top-Down Neural Attention by Excitation Backprop (Zhang et al. 2016, arXiv 1608.00507), without
    its tolerance of 15 pixels.
    """
    if maps.ndim != 3 or boxes.shape != (len(maps), 4):
        raise ValueError(
            f"maps of shape {tuple(maps.shape)} and boxes of shape {tuple(boxes.shape)}; wanted (N, H, W) "
            "and (N, 4)"
        )
    flat = maps.detach().float().flatten(1)
    points_somewhere = (flat.amax(1) > flat.amin(1)) & flat.isfinite().all(1)
    x, y = _highest_pixels(maps.detach().float(), image_size)
    x0, y0, x1, y1 = boxes.to(maps.device).unbind(1)
    inside = (x0 <= x + 0.5) & (x + 0.5 < x1) & (y0 <= y + 0.5) & (y + 0.5 < y1)
    return inside & points_somewhere


def _highest_pixels(maps: Tensor, image_size: int) -> tuple[Tensor, Tensor]:
    size = (image_size, image_size)
    enlarged = interpolate(maps[:, None], size, mode="bilinear", align_corners=False)
    places = enlarged.flatten(1).argmax(1)
    return places % image_size, torch.div(places, image_size, rounding_mode="floor")


__all__ = ["pointing_game"]
