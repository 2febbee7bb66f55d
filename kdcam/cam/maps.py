"""Activation maps as plain differentiable functions of a feature map and a classifier's weight.

Every function takes the whole batch at once, lets the gradient through all of its tensors, and computes in
float32 (float64 stays) whatever the feature map's type and whether autocast is on: a sum over hundreds of
channels overflows float16, and eight bits of mantissa blur a map before it is normalised.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcam.runtime.numerics import wide, wide_dtype

_FLAT = 1e-12  # a map whose divisor is not above this is left at its own, vanishing scale
# A map whose spread is not above this share of its largest magnitude is constant but for rounding.
_FLAT_SPREAD = 1e-6


def caam(feature_map: Tensor) -> Tensor:
    """Return the class-agnostic activation map, the sum over channels.

    Args:
        feature_map: (N, C, H, W).

    Returns:
        (N, H, W).

    Source: CAM-loss (Wang et al. 2021, arXiv 2109.01359).
    """
    _check_feature_map(feature_map)
    return feature_map.sum(dim=1, dtype=wide_dtype(feature_map))


def class_cams(feature_map: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the class activation map of every class, whose mean over the positions is the class's logit.

    Without ``bias`` that mean is the logit less its bias.

    Args:
        feature_map: (N, C, H, W), the last map before global average pooling.
        weight: (K, C), of the linear classifier behind the pooling.
        bias: (K,), added at every position.

    Returns:
        (N, K, H, W).

    Source: Learning Deep Features for Discriminative Localization (Zhou et al. 2016, arXiv 1512.04150).
    """
    _check_weight(feature_map, weight)
    with torch.autocast(feature_map.device.type, enabled=False):
        cams = torch.einsum("kc,nchw->nkhw", wide(weight), wide(feature_map))
        if bias is None:
            return cams
        return cams + wide(bias)[:, None, None]


def target_cam(feature_map: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the class activation map of each image's target.

    Args:
        feature_map: (N, C, H, W), the last map before global average pooling.
        weight: (K, C), of the linear classifier behind the pooling.
        targets: (N,) int64 labels, or (N, K) float rows (mixed or multi-label): then the sum of the classes'
            maps, each times its target.

    Returns:
        (N, H, W), without the bias: an offset of the whole map that min-max normalisation removes.
    """
    _check_weight(feature_map, weight)
    with torch.autocast(feature_map.device.type, enabled=False):
        rows = _target_rows(wide(weight), targets, len(feature_map))
        return torch.einsum("nc,nchw->nhw", rows, wide(feature_map))


def grad_cam(feature_map: Tensor, gradient: Tensor) -> Tensor:
    """Return the Grad-CAM of each image: the map's channels weighted by their mean gradient, without what is below 0.

    For a network with an exact CAM it is the class's CAM (without the bias) over the number of positions, cut
    off at 0.

    Args:
        feature_map: (N, C, H, W), any map of the network.
        gradient: (N, C, H, W), of a class's logit with respect to it.

    Returns:
        (N, H, W), at least 0; all zeros: nothing speaks for the class.

    Source: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391, equations 1 and 2).
    """
    _check_gradient(feature_map, gradient)
    with torch.autocast(feature_map.device.type, enabled=False):
        weights = wide(gradient).mean((2, 3))
        return torch.einsum("nc,nchw->nhw", weights, wide(feature_map)).relu()


def hires_cam(feature_map: Tensor, gradient: Tensor) -> Tensor:
    """Return the HiResCAM of each image: the sum over channels of map times gradient, position by position.

    It differs from `grad_cam` where the gradient is not the same at all positions, and keeps what speaks
    against the class (below 0). Arguments as those of `grad_cam`.

    Returns:
        (N, H, W).

    Source: HiResCAM (Draelos & Carin 2020, arXiv 2011.08891, equation 3).
    """
    _check_gradient(feature_map, gradient)
    return (wide(feature_map) * wide(gradient)).sum(1)


# Why eps is a share of the map's magnitude: docs/decisions/005.
def minmax_normalize(maps: Tensor, *, eps: float = 1e-3) -> Tensor:
    """Return each map brought to [0, 1] on its own, from its lowest to its highest value.

    The divisor is the map's range, but at least ``eps`` times its largest magnitude: an ordinary map spans
    exactly [0, 1]; a nearly flat one stays below 1, so that its gradient is bounded relative to its size. A
    constant map gives zeros and a finite gradient.

    Args:
        maps: (..., H, W).
        eps: 0: any range above zero is stretched to [0, 1]; 1e-3 is kdcam's choice.

    Returns:
        The same shape, float32 (float64 stays).
    """
    maps = wide(maps)
    low = maps.amin(dim=(-2, -1), keepdim=True)
    high = maps.amax(dim=(-2, -1), keepdim=True)
    magnitude = torch.maximum(high, -low)
    divisor = torch.maximum(high - low, eps * magnitude)
    return (maps - low) / divisor.masked_fill(divisor <= _FLAT, 1.0)


def map_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return Pearson's correlation over the positions of two maps of each image.

    Args:
        first: (N, H, W), of any scale and offset.
        second: (N, H', W'); the maps are brought to the smaller height and width by average pooling.

    Returns:
        (N,) in [-1, 1]. 1: alike but for scale and offset; 0: nothing in common, or one of them is constant
        (as every map of one position is); -1: one is high where the other is low.
    """
    if first.ndim != 3 or second.ndim != 3 or len(first) != len(second):
        raise ValueError(
            f"maps of shape {tuple(first.shape)} and {tuple(second.shape)}; wanted (N, H, W) and (N, H', W')"
        )
    one, other = (_standardised(maps) for maps in pool_to_smaller(wide(first), wide(second)))
    return (one * other).sum(1).clamp(-1, 1)


def pool_to_smaller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return two maps (N, H, W) at the smaller height and the smaller width of both, by average pooling."""
    height = min(first.shape[-2], second.shape[-2])
    width = min(first.shape[-1], second.shape[-1])
    return _pool(first, height, width), _pool(second, height, width)


def _pool(maps: Tensor, height: int, width: int) -> Tensor:
    if maps.shape[-2:] == (height, width):
        return maps
    return F.adaptive_avg_pool2d(maps.unsqueeze(1), (height, width)).squeeze(1)


def _standardised(maps: Tensor) -> Tensor:
    """Return maps (N, H, W) as rows (N, H W) of mean 0 and length 1; a constant one as zeros."""
    rows = maps.flatten(1)
    largest = rows.abs().amax(1, keepdim=True)
    rows = rows / largest.clamp(min=torch.finfo(rows.dtype).tiny)
    centred = rows - rows.mean(1, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    flat = length <= _FLAT_SPREAD * rows.shape[1] ** 0.5
    return torch.where(flat, 0.0, centred / length.masked_fill(flat, 1.0))


def _target_rows(weight: Tensor, targets: Tensor, images: int) -> Tensor:
    """Return the weight row (N, C) that each image's target selects or mixes."""
    if len(targets) == images and targets.ndim == 1 and not targets.is_floating_point():
        return weight[targets]
    if targets.shape == (images, len(weight)):
        return targets.to(weight.dtype) @ weight
    raise ValueError(
        f"targets of shape {tuple(targets.shape)} and type {targets.dtype} fit neither ({images},) integer "
        f"labels nor ({images}, {len(weight)}) rows"
    )


def _check_feature_map(feature_map: Tensor) -> None:
    if feature_map.ndim != 4:
        raise ValueError(f"a feature map has shape (N, C, H, W), not {tuple(feature_map.shape)}")


def _check_gradient(feature_map: Tensor, gradient: Tensor) -> None:
    _check_feature_map(feature_map)
    if gradient.shape != feature_map.shape:
        raise ValueError(
            f"gradient of shape {tuple(gradient.shape)} for a feature map of shape {tuple(feature_map.shape)}; "
            "wanted that of one score an image with respect to this map"
        )


def _check_weight(feature_map: Tensor, weight: Tensor) -> None:
    _check_feature_map(feature_map)
    if weight.ndim != 2 or weight.shape[1] != feature_map.shape[1]:
        raise ValueError(
            f"weight of shape {tuple(weight.shape)} does not fit a feature map of shape "
            f"{tuple(feature_map.shape)}: a class activation map needs (K, C) and (N, C, H, W) of one C"
        )


__all__ = [
    "caam",
    "class_cams",
    "grad_cam",
    "hires_cam",
    "map_similarity",
    "minmax_normalize",
    "pool_to_smaller",
    "target_cam",
]
