import pytest
import torch

from kdcam.data.config import NoiseConfig
from kdcam.data.label_noise import add_noise, symmetric_noise


def test_symmetric_noise_is_exclusive_and_near_its_rate():
    targets = torch.arange(50_000) % 10
    noise = add_noise(targets, NoiseConfig(rate=0.4), num_classes=10)
    assert torch.equal(noise.clean, targets)
    assert torch.equal(noise.changed, noise.noisy != targets)
    assert abs(noise.realised_rate - 0.4) < 0.01
    flips = torch.zeros(10, 10).index_put((targets, noise.noisy), torch.tensor(1.0), accumulate=True) / 5000
    off = flips[~torch.eye(10, dtype=torch.bool)]
    assert float(off.min()) > 0.4 / 9 - 0.012
    assert float(off.max()) < 0.4 / 9 + 0.012


@pytest.mark.parametrize(("rate", "wrong"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_extremes_are_exact(rate, wrong):
    noise = add_noise(torch.arange(1000) % 3, NoiseConfig(rate=rate), num_classes=3)
    assert noise.realised_rate == wrong
    assert int(noise.noisy.min()) >= 0
    assert int(noise.noisy.max()) <= 2


def test_the_noise_follows_its_own_seed():
    targets = torch.zeros(100, dtype=torch.int64)
    first, again, other = (
        add_noise(targets, NoiseConfig(rate=0.5, seed=s), num_classes=4) for s in (1, 1, 2)
    )
    assert torch.equal(first.noisy, again.noisy)
    assert not torch.equal(first.noisy, other.noisy)


def test_one_class_is_a_programmers_error():
    with pytest.raises(ValueError, match="at least 2"):
        symmetric_noise(torch.zeros(2).long(), num_classes=1, rate=0.1, generator=torch.Generator())
