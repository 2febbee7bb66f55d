import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kdcam.losses.loss import Shapes
from kdcam.losses.mutual_channel import (
    MutualChannelConfig,
    draw_keep_mask,
    group_sizes,
    mutual_channel_loss,
)
from kdcam.models.classifier import Widths

# Two classes, five channels (class 0: two, class 1: three), a 2x3 map.
FIVE = torch.tensor(
    [[[1, 0, 0, 0, 0, 5], [0, 2, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]]]
).reshape(1, 5, 2, 3)
EVERY = torch.ones(5, dtype=torch.bool)
LABEL = torch.tensor([0])


def loss(feature_map: Tensor, targets: Tensor, **changes: object) -> tuple[Tensor, Tensor]:
    arguments: dict[str, object] = {"num_classes": 2, "keep_mask": EVERY, "diversity_weight": 1.0}
    return mutual_channel_loss(feature_map, targets, **(arguments | changes))  # type: ignore[arg-type]


def by_loops(
    feature_map: Tensor, targets: Tensor, sizes: list[int], keep_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Return L_dis and 1 - mean h / xi, class by class."""
    scores, shares, first = [], [], 0
    for size in sizes:
        group = feature_map[:, first : first + size].flatten(2)
        kept = group[:, keep_mask[first : first + size]]
        scores.append(kept.max(1).values.mean(1))
        shares.append(group.softmax(2).max(1).values.sum(1) / size)
        first += size
    return cross_entropy(torch.stack(scores, 1), targets), 1 - torch.stack(shares, 1).mean()


@pytest.mark.parametrize(
    ("dropped", "scores"), [((), (8 / 6, 4 / 6)), ((0, 2), (2 / 6, 1 / 6)), ((1, 3, 4), (6 / 6, 3 / 6))]
)
def test_discriminality_hand_worked(dropped: tuple[int, ...], scores: tuple[float, float]) -> None:
    keep_mask = EVERY.clone()
    keep_mask[list(dropped)] = False
    discriminality, _ = loss(FIVE.float(), LABEL, keep_mask=keep_mask)
    assert discriminality.item() == pytest.approx(math.log(1 + math.exp(scores[1] - scores[0])))


def test_diversity_hand_worked() -> None:
    # exp of a row, over its sum, is its softmax: 0.1 five times and 0.5; or 1/6 everywhere.
    last, first, even = (torch.tensor(row).log() for row in ([1.0] * 5 + [5], [5.0] + [1] * 5, [1.0] * 6))
    feature_map = torch.stack([last, first, even, even, first]).reshape(1, 5, 2, 3)
    two, three = 0.5 + 4 * 0.1 + 0.5, 0.5 + 5 / 6  # h of class 0 and of class 1
    _, diversity = loss(feature_map, LABEL, diversity_weight=4.0)
    assert diversity.item() == pytest.approx(4 * (1 - (two / 2 + three / 3) / 2))


def test_masked_channels_are_left_out_of_the_max_and_are_not_zero() -> None:
    feature_map = torch.tensor([-5.0, -1.0, -2.0, -3.0, -4.0]).reshape(1, 5, 1, 1).expand(1, 5, 2, 3)
    keep_mask = torch.tensor([True, False, True, False, False])
    discriminality, _ = loss(feature_map, LABEL, keep_mask=keep_mask)
    assert discriminality.item() == pytest.approx(math.log(1 + math.exp(-2 + 5)))


@pytest.mark.parametrize(("channels", "classes"), [(6, 2), (7, 3), (11, 4), (5, 5)])
def test_equals_loops_over_classes(channels: int, classes: int) -> None:
    torch.manual_seed(0)
    feature_map = torch.randn(3, channels, 4, 5, dtype=torch.float64)
    targets = torch.randint(classes, (3,))
    keep_mask = draw_keep_mask(channels, num_classes=classes, keep_fraction=0.5, device=torch.device("cpu"))
    expected = by_loops(feature_map, targets, group_sizes(channels, classes), keep_mask)
    found = loss(feature_map, targets, num_classes=classes, keep_mask=keep_mask)
    torch.testing.assert_close(found, expected)
    strided = feature_map.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(loss(strided, targets, num_classes=classes, keep_mask=keep_mask), expected)


def test_released_constants_map_to_ours() -> None:
    """PRIS-CV/Mutual-Channel-Loss: alpha = 1.5 times L_dis, beta = 20 times (1 - mean h / xi); xi = 3."""
    torch.manual_seed(0)
    feature_map, targets = torch.rand(4, 12, 3, 3).double(), torch.tensor([0, 1, 2, 3])
    keep_mask = torch.tensor([True, True, False] * 4)
    plain, normalised = by_loops(feature_map, targets, [3] * 4, keep_mask)
    released = 1.5 * plain + 20 * normalised
    ours = loss(feature_map, targets, num_classes=4, keep_mask=keep_mask, diversity_weight=20 / 1.5)
    torch.testing.assert_close(1.5 * (ours[0] + ours[1]), released)
    # The paper's L_dis - lambda L_div with L_div = mean h: lambda = diversity_weight / xi, but for a constant.
    mean_h = 3 * (1 - normalised)
    paper = 1.5 * (plain - (20 / 1.5 / 3) * mean_h)
    torch.testing.assert_close(released - paper, torch.tensor(20.0, dtype=torch.float64))


def test_groups_of_the_paper() -> None:
    assert group_sizes(2048, 200) == [10] * 152 + [11] * 48  # CUB
    assert group_sizes(2048, 196) == [10] * 108 + [11] * 88  # Cars
    assert group_sizes(512, 102) == [5] * 100 + [6] * 2  # Flowers
    with pytest.raises(ValueError, match="3 channels cannot be divided among 4"):
        group_sizes(3, 4)
    with pytest.raises(ValueError, match="5 channels cannot be divided among 6"):
        loss(FIVE.float(), LABEL, num_classes=6)


@pytest.mark.parametrize(
    ("channels", "classes", "keep_fraction", "kept"),
    [
        (9, 3, 0.5, [2, 2, 2]),
        (21, 2, 0.6, [6, 7]),
        (3, 3, 0.5, [1, 1, 1]),
        (10, 2, 0.6, [3, 3]),
        (7, 2, 1.0, [3, 4]),
    ],
)
def test_mask_keeps_as_many_of_each_group_as_the_released_code(
    channels: int, classes: int, keep_fraction: float, kept: list[int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    seen = torch.zeros(channels)
    for _ in range(60):
        mask = draw_keep_mask(
            channels,
            num_classes=classes,
            keep_fraction=keep_fraction,
            device=torch.device("cpu"),
            generator=generator,
        )
        groups = mask.split(group_sizes(channels, classes))
        assert [int(group.sum()) for group in groups] == kept
        seen += mask
    assert (seen > 0).all()


def test_mask_follows_its_generator() -> None:
    first, second = (
        draw_keep_mask(
            30,
            num_classes=7,
            keep_fraction=0.5,
            device=torch.device("cpu"),
            generator=torch.Generator().manual_seed(3),
        )
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_moving_positions_changes_nothing() -> None:
    torch.manual_seed(0)
    feature_map, targets = torch.randn(2, 5, 2, 3), torch.tensor([0, 1])
    moved = feature_map.flatten(2)[:, :, torch.randperm(6)].reshape(2, 5, 3, 2)
    torch.testing.assert_close(loss(moved, targets), loss(feature_map, targets))


def test_no_diversity_is_worked_out_at_weight_zero() -> None:
    assert loss(FIVE.float(), LABEL, diversity_weight=0.0)[1].item() == 0


def test_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    feature_map = torch.randn(2, 5, 2, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([True, False, True, True, False])
    assert torch.autograd.gradcheck(lambda f: sum(loss(f, torch.tensor([0, 1]), keep_mask=mask)), feature_map)


def sizes_of(num_classes: int) -> Shapes:
    sizes = Widths(64, 64, 2, 2)
    return Shapes("single-label", num_classes, torch.empty(0, dtype=torch.int64), sizes, None)


def test_too_few_channels_are_refused_with_the_way_out() -> None:
    reason = MutualChannelConfig().misfit(sizes_of(100))
    assert reason is not None
    assert "64 channels for 100 classes" in reason
    assert "model.feature_channels = 300" in reason
    assert MutualChannelConfig().misfit(sizes_of(64)) is None


def test_every_group_keeps_a_channel_however_many_groups_there_are() -> None:
    generator = torch.Generator().manual_seed(0)
    for classes, keep_fraction in ((20_000, 0.5), (5, 1e-7)):
        for _ in range(20):
            mask = draw_keep_mask(
                2 * classes,
                num_classes=classes,
                keep_fraction=keep_fraction,
                device=torch.device("cpu"),
                generator=generator,
            )
            assert (mask.view(classes, 2).sum(1) == 1).all()
