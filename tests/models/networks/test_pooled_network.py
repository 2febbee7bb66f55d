import pytest
import torch
from torch import nn

from kdcam.models.networks.pooled_network import PooledNetwork, he_normal, linear_layer


def test_he_normal() -> None:
    network = nn.Sequential(nn.Conv2d(8, 64, 5), nn.Linear(3, 3), nn.Conv2d(64, 64, 3, groups=64, bias=False))
    before = network[1].weight.clone()
    he_normal(network)
    assert network[0].weight.std().item() == pytest.approx((2 / (25 * 64)) ** 0.5, rel=0.03)
    assert network[2].weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.1)
    assert not network[0].bias.any()
    assert torch.equal(network[1].weight, before)


def test_linear_layer() -> None:
    assert isinstance(linear_layer(4, 0), nn.Identity)
    layer = linear_layer(4, 3)
    assert isinstance(layer, nn.Linear)
    assert layer.weight.shape == (3, 4)


def test_a_family_must_say_its_maps() -> None:
    with pytest.raises(NotImplementedError):
        PooledNetwork(4, num_classes=2, drop_rate=0.0).forward_features(torch.zeros(1, 3, 4, 4))
