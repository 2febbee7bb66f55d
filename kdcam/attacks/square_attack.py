"""The Square attack: random search with squares of colour, by forward passes alone."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kdcam.attacks.attacked_network import attack_context, check_budget, check_counts, image_positions
from kdcam.attacks.budget import Norm
from kdcam.attacks.norm_ball import NormBall
from kdcam.attacks.objective import AttackGoal

_TINY = 1e-12  # norms are kept above it
_TILES = 5  # tiles along a side of the first L2 point (Andriushchenko et al. 2020, section 4.3)
# After so many of 10,000 queries the share of pixels is halved (Andriushchenko et al. 2020, section 4).
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_BLOCK = 256  # queries whose random numbers are drawn at once
_SEED_TAG = 3  # last number of the seeds: other random numbers than those of other attacks


def square(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    n_queries: int = 5000,
    p_init: float = 0.8,
    seed: int = 0,
    indices: Tensor | None = None,
) -> Tensor:
    """Return adversarial images of the Square attack, which needs no gradient.

    Random squares at the edge of the budget are kept where they raise the margin loss. An image drops out of the batch
    as soon as it is fooled.

    Args:
        model: gives logits (N, K) for images in [0, 1].
        images: (N, C, H, W) in [0, 1].
        targets: (N,) int64, the labels to get away from.
        eps: largest change, per pixel (linf) or of the whole image (l2).
        norm: what eps measures.
        n_queries: forward passes an image at most, the first one included.
        p_init: share of an image's pixels that the first squares cover, in (0, 1].
        seed: of the random choices.
        indices: (N,) int64, each image's position in its data set, which its choices follow from; by default its
            position in the batch.

    Raises ``ValueError`` for images outside [0, 1] or settings that cannot be.

    Source: Andriushchenko et al. 2020, arXiv 1912.00049, algorithms 1 to 3; the schedule of the squares' sizes is
    stretched to ``n_queries``, as in the authors' code (max-andr/square-attack), so that they come to their smallest;
    AutoAttack's standard version leaves it as it is for 10,000 queries and ends, at 5,000, with larger squares.
    Differences: in L2 the change has norm eps after every step, as in the authors' code, and squares are no larger
    than the shorter side.
    """
    check_budget(eps, norm)
    check_counts(n_queries=n_queries)
    if not 0 < p_init <= 1:
        raise ValueError(f"p_init is {p_init}; wanted a share of the pixels in (0, 1]")
    positions, ball = image_positions(indices, images), NormBall(norm, eps)
    with attack_context(model, images, targets, loss="margin") as (model, clean, goal), torch.no_grad():
        if len(clean) == 0:
            return clean
        seeds = [(seed, position) for position in positions]
        return _search(model, clean, goal, ball, n_queries=n_queries, p_init=p_init, seeds=seeds)


class _State(NamedTuple):
    """The images that still stand; the first dimension of every tensor is theirs."""

    position: Tensor  # (n,), in the batch
    clean: Tensor
    best: Tensor
    best_loss: Tensor

    def of(self, chosen: Tensor) -> "_State":
        return _State(*(tensor[chosen] for tensor in self))


def _search(
    model: nn.Module,
    clean: Tensor,
    goal: AttackGoal,
    ball: NormBall,
    *,
    n_queries: int,
    p_init: float,
    seeds: Sequence[tuple[int, int]],
) -> Tensor:
    found = clean.clone()
    state = _State(
        torch.arange(len(clean), device=clean.device),
        clean,
        clean,
        torch.full((len(clean),), -torch.inf, dtype=clean.dtype, device=clean.device),
    )
    sizes = square_sides(n_queries, p_init, height=clean.shape[2], width=clean.shape[3])
    propose = _proposals(clean, ball, sizes)
    for query in range(n_queries):
        # Query 0 is the first point: its random numbers are as many as it has pixels, those of later ones are few.
        if query == 0:
            images = _first_point(clean, ball, seeds)
        else:
            if (query - 1) % _BLOCK == 0:
                standing = [seeds[row] for row in state.position.tolist()]
                block = 1 + (query - 1) // _BLOCK
                draws = _draws(standing, block, (_BLOCK, 5 + clean.shape[1])).to(clean)
            images = propose(state, sizes[query - 1], draws[:, (query - 1) % _BLOCK])
        logits = model(images)
        losses, fooled = goal.losses(logits), goal.fooled(logits)
        better = fooled | (losses > state.best_loss)
        state = state._replace(
            best=torch.where(better[:, None, None, None], images, state.best),
            best_loss=torch.where(better, losses.to(state.best_loss.dtype), state.best_loss),
        )
        if bool(fooled.any()):
            found[state.position[fooled]] = state.best[fooled]
            state, goal = state.of(~fooled), goal.of(~fooled)
            if len(state.position) == 0:
                break
            if query > 0:
                draws = draws[~fooled]
    found[state.position] = state.best
    return found


def square_sides(n_queries: int, p_init: float, *, height: int, width: int) -> list[int]:
    """Return the side of each query's square in pixels; it shrinks as the search goes on."""
    sides = []
    for query in range(n_queries):
        halvings = sum(query * 10_000 > after * n_queries for after in _HALVINGS)
        side = round((p_init / 2**halvings * height * width) ** 0.5)
        sides.append(min(max(side, 1), height, width))
    return sides


def _draws(seeds: Sequence[tuple[int, int]], block: int, shape: tuple[int, ...]) -> Tensor:
    """Return uniform numbers (N, *shape) in [0, 1), each image's from its own seed and the block alone."""
    drawn = np.empty((len(seeds), *shape), dtype=np.float32)
    for row, seed in zip(drawn, seeds, strict=True):
        np.random.default_rng((*seed, block, _SEED_TAG)).random(dtype=np.float32, out=row)
    return torch.from_numpy(drawn)


def _first_point(clean: Tensor, ball: NormBall, seeds: Sequence[tuple[int, int]]) -> Tensor:
    _, channels, height, width = clean.shape
    linf = ball.norm == "linf"
    shape = (channels, 1, width) if linf else (channels, height, width)
    uniform = _draws(seeds, 0, shape).to(clean)
    change = random_signs(uniform) if linf else tiles(uniform)
    return (clean + ball.eps * change).clamp(0, 1)


_Proposal = Callable[[_State, int, Tensor], Tensor]
"""Takes the state, the side of the square and uniform numbers (n, 5 + C); gives the next images to try."""


def _proposals(clean: Tensor, ball: NormBall, sides: Sequence[int]) -> _Proposal:
    if ball.norm == "linf":
        return partial(_linf_proposal, ball)
    shorter = min(clean.shape[2:])
    # Odd and at least 3, as in the authors' code. A handful of sides for thousands of queries: each is drawn once.
    patterns = {side: bump(min(max(side, 3) | 1, shorter)).to(clean) for side in set(sides)}
    return partial(_l2_proposal, ball, patterns)


def _linf_proposal(ball: NormBall, state: _State, side: int, draws: Tensor) -> Tensor:
    """Algorithm 2: one square of a colour at the edge of the budget."""
    channels = state.clean.shape[1]
    inside = window(draws[:, 0], draws[:, 1], side, state.clean)
    signs = random_signs(draws[:, -channels:])
    edge = (state.clean + ball.eps * signs[:, :, None, None]).clamp(0, 1)
    return torch.where(inside, edge, state.best)


def _l2_proposal(
    ball: NormBall, patterns: Mapping[int, Tensor], state: _State, side: int, draws: Tensor
) -> Tensor:
    """Algorithm 3: one square takes the budget of another and what is unused."""
    channels = state.clean.shape[1]
    change = two_windows(
        state.best - state.clean,
        eps=ball.eps,
        pattern=patterns[side],
        corners=draws[:, :4],
        turned=draws[:, 4] < 0.5,
        signs=random_signs(draws[:, -channels:]),
    )
    return (state.clean + ball.eps * ball.direction(change)).clamp(0, 1)


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
        row: (N,) in [0, 1): where among all possible positions its top is.
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


__all__ = [
    "bump",
    "random_signs",
    "square",
    "square_sides",
    "tiles",
    "two_windows",
    "window",
]
