import pytest
import torch
from sklearn.datasets import load_digits
from tensor_batches import TensorBatches
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdcam.progress import Silent
from kdcam.robustness.checks import CHECKED_IMAGES, Check, failed, run_checks
from kdcam.robustness.probe import Budget

BUDGET = Budget("linf", 0.1)


class Small(nn.Module):
    """Two convolutions, trained on 1,300 digits for a second."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(images))
        return logits


class Saturated(nn.Module):
    """Logits so large that the cross-entropy has no gradient left in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return 1000 * self.network(images)


class Quantised(Saturated):
    """Sees pictures in eight shades: nothing but a step has a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images * 7).round() / 7)


class Drawing(Saturated):
    """Adds noise of its own to every picture."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + 0.3 * torch.randn_like(images))


class Probabilities(Saturated):
    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).softmax(1)


@pytest.fixture(scope="module")
def batches() -> TensorBatches:
    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    return TensorBatches(images, torch.from_numpy(digits.target), batch_size=64)


@pytest.fixture(scope="module")
def network(batches: TensorBatches) -> nn.Module:
    torch.manual_seed(0)
    network = Small()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(6):
        for rows in torch.randperm(1300).split(32):
            optimizer.zero_grad()
            cross_entropy(network(batches.images[rows]), batches.targets[rows]).backward()
            optimizer.step()
    return network.eval()


def checks_of(network: nn.Module, batches: TensorBatches, budget: Budget = BUDGET) -> dict[str, Check]:
    test = TensorBatches(batches.images[1300:], batches.targets[1300:], batch_size=64)
    with torch.no_grad():
        right = network(test.images).argmax(1) == test.targets
    assert float(right.double().mean()) > 0.6
    return {check.name: check for check in run_checks(network, test, right, budget)}


@pytest.mark.parametrize("budget", [BUDGET, Budget("l2", 0.8), Budget("linf", 0.02)])
def test_an_honest_network_passes(network: nn.Module, batches: TensorBatches, budget: Budget) -> None:
    found = checks_of(network, batches, budget)
    assert list(found) == [
        "zero_gradients",
        "falls_with_eps",
        "falls_with_steps",
        "same_twice",
        "large_eps",
        "black_box",
        "rounding",
        "probabilities",
    ]
    assert failed(tuple(found.values())) == ()
    assert found["large_eps"].value == 0
    assert found["rounding"].value is not None


def test_saturated_logits_are_flagged(network: nn.Module, batches: TensorBatches) -> None:
    found = checks_of(Saturated(network), batches)
    assert {"zero_gradients", "large_eps", "black_box"} <= {
        check.name for check in failed(tuple(found.values()))
    }
    assert found["zero_gradients"].value is not None
    assert found["zero_gradients"].value > 0.9


def test_a_quantised_input_is_flagged(network: nn.Module, batches: TensorBatches) -> None:
    found = checks_of(Quantised(network), batches)
    assert {"zero_gradients", "large_eps", "black_box"} <= {
        check.name for check in failed(tuple(found.values()))
    }


def test_a_network_that_draws_is_flagged(network: nn.Module, batches: TensorBatches) -> None:
    assert not checks_of(Drawing(network), batches)["same_twice"].passed


def test_probabilities_are_flagged(network: nn.Module, batches: TensorBatches) -> None:
    found = checks_of(Probabilities(network), batches)
    assert not found["probabilities"].passed
    assert found["probabilities"].value == 1


class Striped(Saturated):
    """Right on whole shades of 8 bits alone: what is adversarial between them is not when it is saved."""

    def forward(self, images: Tensor) -> Tensor:
        off = (images * 255 - (images * 255).round()).abs().amax((1, 2, 3))
        logits: Tensor = self.network(images)
        wrong = logits.detach().argmax(1, keepdim=True)
        return logits.scatter_add(1, wrong, -1000 * off[:, None].clamp(0, 0.1))


def test_images_that_fool_between_the_shades_only_are_flagged(
    network: nn.Module, batches: TensorBatches
) -> None:
    shades = TensorBatches((batches.images * 255).round() / 255, batches.targets)
    found = checks_of(Striped(network), shades, Budget("linf", 1e-3))
    assert found["rounding"].value == 0
    assert not found["rounding"].passed


def test_only_the_first_right_images_are_looked_at(network: nn.Module, batches: TensorBatches) -> None:
    seen = set()

    class Watched(Saturated):
        def forward(self, images: Tensor) -> Tensor:
            seen.add(len(images))
            return self.network(images)

    class Watcher(Silent):
        def __init__(self) -> None:
            self.done: list[tuple[str, int, int]] = []

        def advance(self, task: str, done: int, total: int) -> None:
            self.done.append((task, done, total))

    watcher = Watcher()
    wanted = torch.ones(300, dtype=torch.bool)
    run_checks(Watched(network), batches, wanted, BUDGET, zero_gradients=0.0, progress=watcher)
    assert max(seen) == 64
    assert CHECKED_IMAGES - 64 in seen
    assert watcher.done[-1] == ("checks", 8, 8)


def test_shares_known_from_the_attacks_are_taken(network: nn.Module, batches: TensorBatches) -> None:
    wanted = torch.ones(4, dtype=torch.bool)
    found = run_checks(network, batches, wanted, BUDGET, zero_gradients=0.5, transfer_gain=0.3)
    assert [(check.name, check.value) for check in failed(found) if check.value in (0.5, 0.3)] == [
        ("zero_gradients", 0.5),
        ("transfer", 0.3),
    ]


def test_several_labels_have_fewer_checks() -> None:
    class Halves(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 10 * (images[:, 0, 0] - 0.5)

    pixels = torch.rand(20, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    rows = (pixels[:, 0, 0] > 0.5).float()
    found = run_checks(Halves(), TensorBatches(pixels, rows), torch.ones(20, dtype=torch.bool), BUDGET)
    assert [check.name for check in found] == [
        "zero_gradients",
        "falls_with_eps",
        "falls_with_steps",
        "same_twice",
    ]
    assert failed(found) == ()


def test_without_a_right_image_there_is_nothing_to_check(network: nn.Module, batches: TensorBatches) -> None:
    assert run_checks(network, batches, torch.zeros(9, dtype=torch.bool), BUDGET) == ()
