import torch
from state_names import norm, under

from kdcam.models.networks.cifar_shufflenet import (
    SHUFFLENETS_V1,
    SHUFFLENETS_V2,
    CifarShuffleNetV1,
    CifarShuffleNetV2,
    ShuffleV1Block,
    ShuffleV1Spec,
    ShuffleV2Block,
    ShuffleV2Spec,
    shuffle_channels,
)

SMALL_V1 = ShuffleV1Spec((48, 96, 192), (1, 2, 1), groups=3)
SMALL_V2 = ShuffleV2Spec((8, 16, 32, 64), (1, 2, 1))


def three_layers(first: int = 1) -> list[str]:
    return [name for i in range(first, first + 3) for name in (f"conv{i}.weight", *norm(f"bn{i}"))]


def test_shuffle_by_hand() -> None:
    channels = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert shuffle_channels(channels, 3).flatten().tolist() == [0, 2, 4, 1, 3, 5]
    assert shuffle_channels(channels, 2).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert torch.equal(shuffle_channels(channels, 1), channels)
    x = torch.randn(2, 6, 3, 4)
    assert torch.equal(shuffle_channels(x, 2), torch.nn.functional.channel_shuffle(x, 2))


def test_v1_names_are_those_of_repdistiller() -> None:
    expected = ["conv1.weight", *norm("bn1")]
    for stage, blocks in enumerate(SMALL_V1.blocks, start=1):
        for index in range(blocks):
            expected += under(f"layer{stage}.{index}", three_layers())
    assert list(CifarShuffleNetV1(SMALL_V1).state_dict()) == [*expected, "linear.weight", "linear.bias"]


def test_v2_names_are_those_of_repdistiller() -> None:
    expected = ["conv1.weight", *norm("bn1")]
    for stage, blocks in enumerate(SMALL_V2.blocks, start=1):
        expected += under(f"layer{stage}.0", three_layers() + three_layers(4)[:12])
        for index in range(blocks):
            expected += under(f"layer{stage}.{index + 1}", three_layers())
    expected += ["conv2.weight", *norm("bn2"), "linear.weight", "linear.bias"]
    assert list(CifarShuffleNetV2(SMALL_V2).state_dict()) == expected


def test_v1_count_by_hand() -> None:
    total, before = 3 * 24 + 2 * 24, 24
    for width, blocks in ((240, 4), (480, 8), (960, 4)):
        for index in range(blocks):
            new = width - before if index == 0 else width  # the pooled input makes up the rest
            middle = new // 4
            total += before * middle // (1 if before == 24 else 3) + 2 * middle
            total += 9 * middle + 2 * middle + middle * new // 3 + 2 * new
            before = width
    network = CifarShuffleNetV1(SHUFFLENETS_V1["shufflenetv1"], num_classes=100)
    count = sum(value.numel() for value in network.parameters())
    assert count == total + 960 * 100 + 100 == 949_258


def test_v2_count_by_hand() -> None:
    total, before = 3 * 24 + 2 * 24, 24
    for width, blocks in ((116, 3), (232, 7), (464, 3)):
        half = width // 2
        total += 9 * before + 2 * before + before * half + 2 * half  # one branch
        total += before * half + 2 * half + 9 * half + 2 * half + half * half + 2 * half  # the other
        total += blocks * (2 * half * half + 9 * half + 6 * half)
        before = width
    total += 464 * 1024 + 2 * 1024 + 1024 * 100 + 100
    network = CifarShuffleNetV2(SHUFFLENETS_V2["shufflenetv2"], num_classes=100)
    assert sum(value.numel() for value in network.parameters()) == total == 1_355_528


def test_v1_blocks_without_their_convolutions() -> None:
    x = torch.randn(1, 24, 8, 8)
    same = ShuffleV1Block(24, 24, stride=1, groups=3).eval()
    half = ShuffleV1Block(24, 48, stride=2, groups=3).eval()
    for block in (same, half):
        torch.nn.init.zeros_(block.conv3.weight)
    assert torch.equal(same(x), x.relu())
    pooled = torch.nn.functional.avg_pool2d(x, 3, 2, padding=1).relu()
    assert torch.equal(half(x), torch.cat([torch.zeros(1, 24, 4, 4), pooled], dim=1))
    assert half.groups == 1  # the stem's 24 channels are not grouped
    assert ShuffleV1Block(48, 96, stride=2, groups=3).groups == 3


def test_v2_block_keeps_its_first_half() -> None:
    block = ShuffleV2Block(8).eval()
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x)[:, 0::2], x[:, :4])


def test_maps() -> None:
    for network, channels in (
        (CifarShuffleNetV1(SMALL_V1), [24, 48, 96, 192]),
        (CifarShuffleNetV2(SMALL_V2), [24, 8, 16, 32, 64]),
    ):
        _, maps = network.eval().forward_intermediates(torch.rand(1, 3, 33, 33))
        assert [one.shape[1] for one in maps] == channels
        assert [one.shape[2] for one in maps][:4] == [33, 17, 9, 5]
