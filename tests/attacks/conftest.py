"""Networks and images that tests of attacks share."""

import pytest
import torch
from sklearn.datasets import load_digits
from small_attacks import Normalised
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdcam.attacks import pgd


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    network = Normalised()
    network(torch.rand(64, 3, 8, 8))
    return network.eval()


@pytest.fixture
def batch(model: nn.Module) -> tuple[Tensor, Tensor]:
    images = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return images, model(images).argmax(1)


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(labels)


@pytest.fixture(scope="session")
def trained(digits: tuple[Tensor, Tensor]) -> nn.Module:
    """Return a network that is partly robust on digits at L-inf 0.15: two seconds of adversarial training."""
    images, labels = digits
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for epoch in range(4):
        for chosen in torch.randperm(1400).split(64):
            found = pgd(
                network,
                images[chosen],
                labels[chosen],
                eps=0.1,
                alpha=0.04,
                steps=3,
                seed=epoch,
                indices=chosen,
            )
            optimizer.zero_grad()
            cross_entropy(network(found), labels[chosen]).backward()
            optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def attacked(digits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return 300 digits that the network was not trained on."""
    return digits[0][1400:1700], digits[1][1400:1700]
