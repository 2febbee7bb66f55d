"""The shapes of the Square attack: signs, tiles and squares at random places of each image."""

import torch
from torch import Tensor

_TINY = 1e-12  # norms are kept above it
_TILES = 5  # tiles along a side of the first L2 point (Andriushchenko et al. 2020, section 4.3)


def random_signs(uniform: Tensor) -> Tensor:
    """Return -1 and 1 from uniform numbers in [0, 1) of any shape; (N, C, 1, W) are the vertical stripes of L-inf."""
    return torch.where(uniform < 0.5, -1.0, 1.0).to(uniform)


def tiles(uniform: Tensor) -> Tensor:
    """Return a change (N, C, H, W) of norm 1 by image: a grid of bumps, each of a random sign and direction.

    Args:
        uniform: (N, C, H, W) numbers in [0, 1); those at the corner of each tile decide.
    """
    images, _, height, width = uniform.shape
    side = max(min(height, width) // _TILES, 1)
    pattern = bump(side).to(uniform)
    rows, columns = height // side, width // side
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    corners = uniform[:, :, top::side, left::side][:, :, :rows, :columns]
    signs = random_signs(corners)
    # Another digit of the first channel's number: which way the bump points, for all channels alike.
    turned = ((corners[:, :1] * 1024) % 1) < 0.5
    upright = torch.kron(torch.ones(rows, columns).to(uniform), pattern)
    lying = torch.kron(torch.ones(rows, columns).to(uniform), pattern.T.contiguous())

    def spread(values: Tensor) -> Tensor:
        return values.repeat_interleave(side, 2).repeat_interleave(side, 3)

    change = torch.zeros_like(uniform)
    change[:, :, top : top + rows * side, left : left + columns * side] = spread(signs) * torch.where(
        spread(turned), lying, upright
    )
    norms = change.flatten(1).norm(dim=1).clamp(min=_TINY)
    scaled: Tensor = change / norms.view(images, 1, 1, 1)
    return scaled


def window(row: Tensor, column: Tensor, side: int, like: Tensor) -> Tensor:
    """Return a mask (N, 1, H, W) of one square an image.

    Args:
        row: (N,) in [0, 1): where among all possible places its top is.
        column: (N,) likewise for its left.
        side: in pixels, at most the shorter side of the images.
        like: (N, C, H, W).
    """
    height, width = like.shape[2:]
    down = torch.arange(height, device=like.device) - _whole_numbers(row, height - side)[:, None]
    right = torch.arange(width, device=like.device) - _whole_numbers(column, width - side)[:, None]
    rows, columns = (down >= 0) & (down < side), (right >= 0) & (right < side)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def two_windows(
    change: Tensor, *, eps: float, pattern: Tensor, corners: Tensor, turned: Tensor, signs: Tensor
) -> Tensor:
    """Return a change (N, C, H, W) whose one square has taken over the other's budget and what was unused.

    Args:
        change: (N, C, H, W), of norm eps by image or less.
        eps: the budget.
        pattern: (side, side), the `bump` added to the first; both squares are of its size.
        corners: (N, 4) in [0, 1): top and left of the first square, then of the second, which is emptied.
        turned: (N,) bool, whether the bump added to the first lies on its side.
        signs: (N, C) of the bump, -1 or 1.

    Source: Andriushchenko et al. 2020, arXiv 1912.00049, algorithm 3.
    """
    _, channels, height, width = change.shape
    side = len(pattern)
    first = window(corners[:, 0], corners[:, 1], side, change)
    second = window(corners[:, 2], corners[:, 3], side, change)
    unused = (eps**2 - change.square().sum((1, 2, 3), keepdim=True)).clamp(min=0) / channels
    budget = (torch.where(first | second, change, 0).square().sum((2, 3), keepdim=True) + unused).sqrt()
    bumps = torch.where(turned[:, None, None], pattern.T, pattern)[:, None] * signs[:, :, None, None]
    rows = _whole_numbers(corners[:, 0], height - side)[:, None] + torch.arange(side, device=change.device)
    columns = _whole_numbers(corners[:, 1], width - side)[:, None] + torch.arange(side, device=change.device)
    images = torch.arange(len(change), device=change.device)[:, None, None]
    spot = (images, slice(None), rows[:, :, None], columns[:, None, :])
    old = change[spot].permute(0, 3, 1, 2)
    new = bumps + old / _norms(old)
    new_change = torch.where(second, torch.zeros_like(change), change)
    new_change[spot] = (new * (budget / _norms(new))).permute(0, 2, 3, 1)
    return new_change


def bump(side: int) -> Tensor:
    """Return a pattern (side, side) of norm 1: a positive bump in the upper half and a negative one below.

    Source: Andriushchenko et al. 2020, arXiv 1912.00049, equation 2.
    """
    half = side // 2
    pattern = torch.cat([_half_bump(half, side), -_half_bump(side - half, side)])
    scaled: Tensor = pattern / pattern.norm()
    return scaled


def _half_bump(height: int, width: int) -> Tensor:
    """Return (height, width): sums of 1/k^2 that fall with the distance (rings of squares) from the middle."""
    down = (torch.arange(height) - height // 2).abs()
    right = (torch.arange(width) - width // 2).abs()
    rings = torch.maximum(down[:, None], right[None, :])
    terms = 1 / torch.arange(1, max(height // 2, width // 2) + 2, dtype=torch.float64).square()
    tails = terms.flip(0).cumsum(0).flip(0)
    return tails[rings]


def _whole_numbers(uniform: Tensor, last: int) -> Tensor:
    """Return whole numbers from 0 to ``last``, from uniform ones in [0, 1)."""
    # float32 rounds a number just below 1 up to last + 1 once the range is large.
    return (uniform * (last + 1)).long().clamp(max=last)


def _norms(windows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(windows, dim=(2, 3), keepdim=True)
    return norms.clamp(min=_TINY)


__all__ = ["bump", "random_signs", "tiles", "two_windows", "window"]
