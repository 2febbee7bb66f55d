import torch
from state_names import norm, under

from kdcam.models.networks.cifar_resnet import Bottleneck, BottleneckSpec, CifarBottleneckResNet

SMALL = BottleneckSpec((1, 2, 1, 1), widths=(2, 3, 4, 5))


def test_parameter_names_are_those_of_repdistiller() -> None:
    block = [name for i in (1, 2, 3) for name in (f"conv{i}.weight", *norm(f"bn{i}"))]
    first = [*block, "shortcut.0.weight", *norm("shortcut.1")]
    expected = ["conv1.weight", *norm("bn1")]
    for stage in (1, 2, 3, 4):
        expected += under(f"layer{stage}.0", first) + (under("layer2.1", block) if stage == 2 else [])
    assert list(CifarBottleneckResNet(SMALL).state_dict()) == [*expected, "linear.weight", "linear.bias"]


def test_parameter_count_by_hand() -> None:
    total = 9 * 3 * 64 + 2 * 64
    before = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        out = 4 * width
        total += before * out + 2 * out  # the shortcut
        for index in range(blocks):
            inputs = before if index == 0 else out
            total += inputs * width + 9 * width * width + width * out + 4 * width + 2 * out
        before = out
    assert (
        total + 2048 * 100 + 100 == 23_705_252
    )  # tests/models/networks/test_networks.py has it of the network


def test_a_block_adds_its_shortcut_before_the_relu() -> None:
    block = Bottleneck(8, 2, 1).eval()
    torch.nn.init.zeros_(block.conv3.weight)
    x = torch.randn(1, 8, 4, 4)
    assert torch.equal(block(x), x.relu())


def test_four_stages_and_a_stem_without_stride() -> None:
    last, maps = CifarBottleneckResNet(SMALL).forward_intermediates(torch.rand(2, 3, 33, 33))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (2, 33, 33),
        (8, 33, 33),
        (12, 17, 17),
        (16, 9, 9),
        (20, 5, 5),
    ]
    assert last is maps[-1]
