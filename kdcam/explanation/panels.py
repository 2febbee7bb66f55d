"""The row of pictures that explains one image: the image, its CAAM, and the maps of some classes."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from torch import Tensor
from torch.nn.functional import interpolate

from kdcam.cam.map_pictures import COLORMAP, RgbImage, captioned, magnified, overlay, to_picture
from kdcam.cam.maps import minmax_normalize
from kdcam.errors import RecipeError
from kdcam.settings.messages import did_you_mean, listed

Scale = Literal["each", "row"]
Caption = tuple[str, str]

_LEAST_PIXELS = 160  # of a picture's side: enough for a caption; smaller images are magnified
_USUAL_COLORMAPS = ("inferno", "magma", "viridis", "jet", "... (matplotlib's)")


class MapStyle(NamedTuple):
    """How maps are drawn."""

    alpha: float = 0.5  # 0: the image alone; 1: the map alone
    colormap: str = COLORMAP
    scale: Scale = "each"  # "each": a map spans the colours on its own; "row": the class maps share one scale


def check_map_style(look: MapStyle) -> None:
    """Raise ``RecipeError`` where maps cannot be drawn so."""
    from matplotlib import colormaps

    if look.scale not in get_args(Scale):
        guess = did_you_mean(look.scale, get_args(Scale))
        raise RecipeError(f"scale: found {look.scale!r}{guess}; allowed: {listed(get_args(Scale))}")
    if look.colormap not in colormaps:
        guess = did_you_mean(look.colormap, colormaps)
        raise RecipeError(f"colormap: found {look.colormap!r}{guess}; allowed: {listed(_USUAL_COLORMAPS)}")
    if not 0 <= look.alpha <= 1:
        raise RecipeError(f"alpha: found {look.alpha:g}; allowed: 0 (the image alone) to 1 (the map alone)")


def panels(
    image: Tensor,
    agnostic: Tensor,
    class_maps: Tensor,
    *,
    title: Caption,
    captions: Sequence[Caption],
    look: MapStyle,
) -> list[RgbImage]:
    """Return the image and the image under each map, each with two lines of text above it.

    Args:
        image: (C, S, S) in [0, 1].
        agnostic: (h, w), the CAAM, of any scale.
        class_maps: (K, h, w), of any scale.
        title: the image's caption.
        captions: of the class maps.
        look: how they are drawn.
    """
    base = magnified(to_picture(image), least=_LEAST_PIXELS)
    size = base.shape[1], base.shape[2]
    drawn = [
        (drawn_maps(agnostic[None], size=size)[0], ("CAAM", "")),
        *zip(drawn_maps(class_maps, size=size, scale=look.scale), captions, strict=True),
    ]
    row = [captioned(base, title)]
    for map_, lines in drawn:
        row.append(captioned(overlay(base, map_, alpha=look.alpha, colormap=look.colormap), lines))
    return row


def drawn_maps(maps: Tensor, *, size: tuple[int, int], scale: Scale = "each") -> Tensor:
    """Return maps (K, h, w) as they are coloured: (K, H, W) in [0, 1], brought to the picture's size bilinearly.

    Only then to [0, 1], as jacobgil/pytorch-grad-cam does, whose arrays these are where ``scale`` is "each": between
    its places a small map does not reach its lowest and highest value.
    """
    large = interpolate(maps[None].float(), size, mode="bilinear", align_corners=False)[0]
    if scale == "each":
        return minmax_normalize(large)
    return minmax_normalize(large.flatten(0, 1)).view_as(large)  # as one tall map


__all__ = ["Caption", "MapStyle", "Scale", "check_map_style", "drawn_maps", "panels"]
