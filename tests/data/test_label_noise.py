"""Label noise: each kind's transition matrix, what is drawn from it, and its seed."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdcam.data.common_config import NoiseConfig
from kdcam.data.datasets import load_data
from kdcam.data.label_noise import (
    TrainingImages,
    add_noise,
    asymmetric_transition,
    check_noise,
    matrix_noise,
    pairflip_transition,
    symmetric_inclusive_transition,
    symmetric_noise,
    symmetric_transition,
    transition_matrix,
)
from kdcam.data.source_configs import DigitsConfig
from kdcam.errors import DataError
from kdcam.runtime.seeding import seeded_generator

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MATRIX = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)


def noisy(targets, config, names=CIFAR10):
    images = TrainingImages(torch.arange(len(targets)), len(targets), None, None)
    return add_noise(targets, config, label_names=names, images=images)


def matrix_file(folder, matrix=MATRIX):
    file = folder / "matrix.csv"
    file.write_text("\n".join(",".join(str(value) for value in row) for row in matrix.tolist()))
    return file


def counted(clean, labels, num_classes):
    """Return how often a label i became j, (K, K)."""
    pairs = torch.bincount(clean * num_classes + labels, minlength=num_classes**2)
    return pairs.view(num_classes, num_classes).double()


def check_drawn_from(counts, transition):
    """Check counts against probabilities: none where that is 0, and Pearson's chi-square statistic of each row."""
    expected = counts.sum(1, keepdim=True) * transition
    assert not counts[transition == 0].any()
    distances = torch.where(transition > 0, (counts - expected) ** 2 / expected.clamp(min=1), 0.0).sum(1)
    # A chi-square variable of k degrees has mean k and variance 2 k; six deviations is out of any draw's reach.
    freedom = (transition > 0).sum(1) - 1
    assert bool((distances <= freedom + 6 * (2 * freedom).sqrt()).all()), distances


@pytest.mark.parametrize("kind", ["symmetric", "symmetric-inclusive", "asymmetric", "pairflip"])
@pytest.mark.parametrize("rate", [0.2, 0.45, 1.0])
def test_what_is_drawn_follows_the_nominal_matrix(kind, rate):
    config = NoiseConfig(kind=kind, rate=rate)
    targets = torch.arange(50_000) % 10
    noise = noisy(targets, config)
    check_drawn_from(counted(targets, noise.noisy, 10), transition_matrix(config, CIFAR10))
    assert torch.equal(noise.clean, targets)
    assert torch.equal(noise.changed, noise.noisy != targets)
    assert noise.realised_rate == pytest.approx(noise.nominal_rate, abs=0.012)


def test_a_matrix_of_unequal_rows_and_unequal_classes(tmp_path):
    targets = torch.cat((torch.zeros(20_000), torch.ones(1000), torch.full((9000,), 2))).long()
    noise = noisy(targets, NoiseConfig(kind="matrix", file=matrix_file(tmp_path)), names=("a", "b", "c"))
    check_drawn_from(counted(targets, noise.noisy, 3), MATRIX)
    # Weighted by the images of each class: (20 * 0.5 + 1 * 0 + 9 * 0.5) / 30.
    assert noise.nominal_rate == pytest.approx(14.5 / 30)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("symmetric", 0.4),
        ("symmetric-inclusive", 0.4 * 9 / 10),
        ("asymmetric", 0.4 * 5 / 10),
        ("pairflip", 0.4),
    ],
)
def test_the_share_of_wrong_labels_to_expect_at_rate_04(kind, wrong):
    noise = noisy(torch.arange(1000) % 10, NoiseConfig(kind=kind, rate=0.4))
    assert noise.nominal_rate == pytest.approx(wrong)
    assert noise.summary() == {
        "kind": kind,
        "nominal_rate": noise.nominal_rate,
        "realised_rate": noise.realised_rate,
    }
    assert f"label noise ({kind}): " in noise.sentence()
    assert f", {wrong:.1%} were to be expected" in noise.sentence()


def test_matrices_by_hand():
    third = torch.full((3, 3), 0.1, dtype=torch.float64)
    assert torch.allclose(symmetric_transition(3, 0.2), third.fill_diagonal_(0.8))
    assert torch.allclose(symmetric_inclusive_transition(3, 0.3), third.fill_diagonal_(0.8))
    pair = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.7, 0.3], [0.3, 0.0, 0.7]], dtype=torch.float64)
    assert torch.allclose(pairflip_transition(3, 0.3), pair)


def test_the_asymmetric_pairs_of_cifar10():
    matrix = asymmetric_transition(CIFAR10, 1.0)
    flips = {CIFAR10[i]: CIFAR10[int(row.argmax())] for i, row in enumerate(matrix)}
    assert flips == {
        **{name: name for name in ("airplane", "automobile", "frog", "horse", "ship")},
        "truck": "automobile",
        "bird": "airplane",
        "deer": "horse",
        "cat": "dog",
        "dog": "cat",
    }


@pytest.mark.parametrize("kind", ["symmetric", "symmetric-inclusive", "asymmetric", "pairflip"])
def test_rate_zero_is_no_noise(kind):
    targets = torch.arange(1000) % 10
    noise = noisy(targets, NoiseConfig(kind=kind, rate=0))
    assert torch.equal(noise.noisy, targets)
    assert noise.nominal_rate == noise.realised_rate == 0


def test_symmetric_noise_of_rate_one_leaves_no_label_right():
    noise = noisy(torch.arange(1000) % 3, NoiseConfig(rate=1.0), names=("a", "b", "c"))
    assert noise.realised_rate == noise.nominal_rate == 1
    assert int(noise.noisy.min()) >= 0
    assert int(noise.noisy.max()) <= 2


@pytest.mark.parametrize("kind", ["symmetric", "symmetric-inclusive"])
def test_the_noise_follows_its_own_seed(kind):
    targets = torch.zeros(100, dtype=torch.int64)
    torch.manual_seed(0)
    first = noisy(targets, NoiseConfig(kind=kind, rate=0.5, seed=1))
    before = torch.random.get_rng_state()
    again = noisy(targets, NoiseConfig(kind=kind, rate=0.5, seed=1))
    other = noisy(targets, NoiseConfig(kind=kind, rate=0.5, seed=2))
    assert torch.equal(first.noisy, again.noisy)
    assert not torch.equal(first.noisy, other.noisy)
    assert torch.equal(before, torch.random.get_rng_state())


def test_another_process_draws_the_same_labels():
    code = (
        "import torch; from kdcam.data.common_config import NoiseConfig; "
        "from kdcam.data.source_configs import DigitsConfig; "
        "from kdcam.data.datasets import load_data; torch.manual_seed(7); "
        "print(load_data(DigitsConfig(noise=NoiseConfig(kind='pairflip', rate=0.3))).noise.noisy.tolist())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "3", "OMP_NUM_THREADS": "2"},
    )
    here = load_data(DigitsConfig(noise=NoiseConfig(kind="pairflip", rate=0.3))).noise
    assert there.stdout.strip() == str(here.noisy.tolist())
    assert here.changed.any()


def test_many_labels_are_drawn_as_few_are():
    # Those drawn at once share memory, not randomness: the first labels do not depend on how many follow.
    targets = torch.arange(40_000) % 3
    many, few = (
        matrix_noise(part, MATRIX, generator=seeded_generator(3)) for part in (targets, targets[:100])
    )
    assert torch.equal(many[:100], few)


def test_classes_that_asymmetric_noise_does_not_know():
    with pytest.raises(
        DataError, match=r"CIFAR-10's or CIFAR-100's classes, found 10 classes: '0', '1'.*pairflip"
    ):
        asymmetric_transition(tuple(map(str, range(10))), 0.2)


def test_a_check_before_anything_is_read(tmp_path):
    config = NoiseConfig(kind="asymmetric", rate=0.2)
    check_noise(config, num_classes=10, label_names=CIFAR10)
    check_noise(config, num_classes=100, label_names=None)
    with pytest.raises(DataError, match=r"asymmetric noise is told by the names"):
        check_noise(config, num_classes=2, label_names=("cat", "dog"))
    with pytest.raises(DataError, match=r"holds 3 lines of 3 numbers, and the data has 10 classes"):
        check_noise(
            NoiseConfig(kind="matrix", file=matrix_file(tmp_path)), num_classes=10, label_names=CIFAR10
        )
    with pytest.raises(
        DataError, match=r"data\.noise: found 1 class in the data, where no label can be wrong"
    ):
        check_noise(NoiseConfig(rate=0.2), num_classes=1, label_names=("cat",))
    with pytest.raises(DataError, match=r"human\.csv: cannot be read"):
        check_noise(
            NoiseConfig(kind="file", file=tmp_path / "human.csv", column="worse"),
            num_classes=10,
            label_names=CIFAR10,
        )


def test_one_class_is_a_programmers_error():
    with pytest.raises(ValueError, match=r"at least 2"):
        symmetric_noise(torch.zeros(2).long(), num_classes=1, rate=0.1, generator=torch.Generator())
    with pytest.raises(ValueError, match=r"at least 2"):
        pairflip_transition(1, 0.1)
