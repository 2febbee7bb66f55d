"""The pairs of asymmetric noise against CIFAR's own numbering."""

import pytest

from kdcam.data.sources.cifar_classes import CIFAR10_PAIRS, CIFAR100_SUPERCLASSES, confused_classes
from kdcam.errors import DataError

# The superclass of each of CIFAR-100's classes 0 to 99, as coarse_labels in its files has it.
COARSE = (
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11),
    *(6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5),
    *(5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17),
    *(10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13),
    *(16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
)
FINE = sorted(
    name for group in CIFAR100_SUPERCLASSES for name in group
)  # CIFAR-100's order is the alphabet's


def test_the_superclasses_are_those_of_cifar100s_files():
    assert len(set(FINE)) == 100
    for coarse, group in enumerate(CIFAR100_SUPERCLASSES):
        assert [FINE[k] for k in range(100) if COARSE[k] == coarse] == list(group)


def test_cifar100_goes_round_within_each_superclass():
    taken = confused_classes(FINE)
    for label in range(100):
        members = [k for k in range(100) if COARSE[k] == COARSE[label]]
        assert taken[label] == members[(members.index(label) + 1) % 5]


def test_the_order_of_the_classes_does_not_matter():
    names = ("truck", "ship", "horse", "frog", "dog", "deer", "cat", "bird", "automobile", "airplane")
    taken = confused_classes(names)
    assert {names[label]: names[other] for label, other in taken.items()} == CIFAR10_PAIRS


@pytest.mark.parametrize(
    "names",
    [("cat", "dog"), FINE[:-1], tuple(map(str, range(10))), ("cat",) * 10],
)
def test_other_classes_are_refused(names):
    with pytest.raises(
        DataError, match=r"^data\.noise: asymmetric noise is told by the names .*found \d+ classes"
    ):
        confused_classes(names)
