import json
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from small_runs import Watcher
from tensor_batches import TensorBatches
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdcam.attacks.budget import Budget
from kdcam.errors import Interrupted
from kdcam.evaluation.robustness.gradient_masking_check import LEAST_IMAGES, MaskingCheck, failed_checks
from kdcam.evaluation.robustness.gradient_masking_report import CHECKED_IMAGES, AttackFindings, masking_checks
from kdcam.evaluation.robustness.missed_by_gradients import AttackGain
from kdcam.evaluation.robustness.partial_results import PartialResults
from kdcam.runtime.progress import Silent

BUDGET = Budget("linf", 0.1)
FALLS = ("falls_with_eps", "falls_with_steps")
# Of one label an image, or of several.
OF_ALL_LABELS = ["zero_gradients", *FALLS, "same_twice", "large_eps", "rounding"]


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


class Blind(Saturated):
    """Has no gradient at all."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).detach() + 0 * images.sum((1, 2, 3))[:, None]


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


def checks_of(network: nn.Module, batches: TensorBatches, budget: Budget = BUDGET) -> dict[str, MaskingCheck]:
    test = TensorBatches(batches.images[1300:], batches.targets[1300:], batch_size=64)
    with torch.no_grad():
        right = network(test.images).argmax(1) == test.targets
    assert float(right.double().mean()) > 0.6
    return {check.name: check for check in masking_checks(network, test, right, budget)}


@pytest.mark.parametrize("budget", [BUDGET, Budget("l2", 0.8), Budget("linf", 0.02)])
def test_an_honest_network_passes(network: nn.Module, batches: TensorBatches, budget: Budget) -> None:
    found = checks_of(network, batches, budget)
    assert list(found) == [*OF_ALL_LABELS, "black_box", "probabilities"]
    assert failed_checks(tuple(found.values())) == ()
    assert found["large_eps"].value == 0
    assert (found["rounding"].value is not None) == (budget.eps != 0.02)  # few images fall to that


def test_saturated_logits_are_flagged(network: nn.Module, batches: TensorBatches) -> None:
    found = checks_of(Saturated(network), batches)
    assert {"zero_gradients", "large_eps", "black_box"} <= {
        check.name for check in failed_checks(tuple(found.values()))
    }
    assert found["zero_gradients"].value is not None
    assert found["zero_gradients"].value > 0.9


def test_a_quantised_input_is_flagged(network: nn.Module, batches: TensorBatches) -> None:
    found = checks_of(Quantised(network), batches)
    assert {"zero_gradients", "large_eps", "black_box"} <= {
        check.name for check in failed_checks(tuple(found.values()))
    }


def test_a_network_that_draws_is_flagged(network: nn.Module, batches: TensorBatches) -> None:
    assert not checks_of(Drawing(network), batches)["same_twice"].passed


def test_probabilities_are_flagged(network: nn.Module, batches: TensorBatches) -> None:
    found = checks_of(Probabilities(network), batches)
    assert not found["probabilities"].passed
    assert found["probabilities"].value == 1
    assert "all at least 0" in found["probabilities"].text
    assert found["rounding"].text.startswith("share of adversarial images that still fool as files")


class Misleading(nn.Module):
    """Linear, but for ripples that no eye sees and every gradient follows: steps lead anywhere."""

    weight: Tensor

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("weight", torch.randn(images[0].numel(), generator=generator))
        self.middle = 0.0
        self.middle = float(self.score(images).median())

    def score(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1)
        score: Tensor = (pixels - 0.06 * torch.sin(300 * pixels)) @ self.weight - self.middle
        return score

    def forward(self, images: Tensor) -> Tensor:
        score = self.score(images)
        return torch.stack([score, -score, -5 - 0 * score], 1)


def test_gradients_that_mislead_are_flagged() -> None:
    images = 0.2 + 0.6 * torch.rand(100, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    network = Misleading(images)
    test = TensorBatches(images, network(images).argmax(1), batch_size=50)
    everything = torch.ones(100, dtype=torch.bool)
    found = {
        check.name: check for check in masking_checks(network, test, everything, Budget("linf", 8 / 255))
    }
    steps = found["falls_with_steps"]
    assert not steps.passed
    assert steps.value is not None
    assert steps.value > 0.1
    assert steps.eps == 8 / 255
    assert steps.text.endswith("at linf eps 0.0314")


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
    striped = checks_of(Striped(network), shades, Budget("linf", 8 / 255))["rounding"]
    honest = checks_of(network, shades, Budget("linf", 8 / 255))["rounding"]
    assert (striped.passed, honest.passed) == (False, True)
    assert striped.value is not None
    assert striped.value < 0.5


@pytest.mark.parametrize("budget", [Budget("linf", 0.5 / 255), Budget("l2", 7 / 255)])
def test_changes_below_a_shade_are_not_rounded(
    network: nn.Module, batches: TensorBatches, budget: Budget
) -> None:
    found = checks_of(network, batches, budget)["rounding"]  # l2: 8 x 8 pixels
    assert (found.value, found.passed) == (None, True)


def test_only_the_first_right_images_are_looked_at(network: nn.Module, batches: TensorBatches) -> None:
    seen = set()

    class Watched(Saturated):
        def forward(self, images: Tensor) -> Tensor:
            seen.add(len(images))
            return self.network(images)

    watcher = Watcher()
    wanted = torch.ones(300, dtype=torch.bool)
    masking_checks(
        Watched(network), batches, wanted, BUDGET, findings=AttackFindings(300, 0.0), progress=watcher
    )
    assert max(seen) == 64
    assert CHECKED_IMAGES - 64 in seen
    assert watcher.done[-1] == ("checks", 8, 8)


def test_shares_known_from_the_attacks_are_taken(network: nn.Module, batches: TensorBatches) -> None:
    wanted = torch.ones(500, dtype=torch.bool)
    small = Budget("linf", 0.02)
    with torch.no_grad():
        right = (network(batches.images[:500]).argmax(1) == batches.targets[:500]).nonzero()[:3, 0].tolist()
    by_square = AttackGain(share=0.004, norm="linf", eps=0.01, places=tuple(right[:2]))
    by_source = AttackGain(share=0.3, norm="linf", eps=0.02, places=tuple(right))
    findings = AttackFindings(500, 0.5, by_square, by_source)
    found = {
        check.name: check
        for check in masking_checks(Blind(network), batches, wanted, small, findings=findings)
    }
    assert found["zero_gradients"].value == 0.5
    # pgd-40 and cw-margin-40 move none of the three.
    square, transfer = found["black_box_attack"], found["transfer"]
    assert (square.value, square.limit, square.eps) == (0.004, 0.002, 0.01)
    assert (transfer.value, transfer.limit, transfer.eps) == (0.3, 0.002, 0.02)
    assert square.text.endswith("fall to the attack square, at linf eps 0.01")
    assert {"zero_gradients", "black_box_attack", "transfer"} <= {
        check.name for check in failed_checks(tuple(found.values()))
    }
    # An honest network falls to longer attacks of its own: the gain was that over a short one.
    large = {"norm": "linf", "eps": 0.4}
    findings = AttackFindings(
        500, 0.5, by_square.model_copy(update=large), by_source.model_copy(update=large)
    )
    honest = masking_checks(network, batches, wanted, small, findings=findings)
    gains = [check for check in honest if check.name in ("black_box_attack", "transfer")]
    assert [(check.value, check.passed, check.eps) for check in gains] == [(0, True, 0.4)] * 2


def test_few_images_are_not_judged(network: nn.Module, batches: TensorBatches) -> None:
    wanted = torch.ones(LEAST_IMAGES - 1, dtype=torch.bool)
    found = masking_checks(Saturated(network), batches, wanted, BUDGET)
    assert failed_checks(found) == ()
    assert {check.name for check in found if check.value is not None} == {"same_twice", "probabilities"}


def test_checks_that_are_done_are_not_done_again(
    network: nn.Module, batches: TensorBatches, tmp_path: Path
) -> None:
    class Stopping(Silent):
        def __init__(self, after: int) -> None:
            self.left = after

        def should_stop(self) -> bool:
            self.left -= 1
            return self.left == 0

    wanted = torch.ones(20, dtype=torch.bool)
    with pytest.raises(Interrupted, match=r"same command goes on"):
        masking_checks(
            network, batches, wanted, BUDGET, partial=PartialResults(tmp_path, key="k"), progress=Stopping(3)
        )
    (file,) = tmp_path.iterdir()
    document = json.loads(file.read_text())
    assert list(document["sections"]) == [f"check {name}" for name in ("zero_gradients", *FALLS)]
    document["sections"]["check falls_with_eps"]["value"] = -7.0
    file.write_text(json.dumps(document))
    found = masking_checks(network, batches, wanted, BUDGET, partial=PartialResults(tmp_path, key="k"))
    assert [check.value for check in found if check.name == "falls_with_eps"] == [-7]
    assert len(found) == 8


def test_several_labels_have_fewer_checks() -> None:
    class Halves(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 10 * (images[:, 0, 0] - 0.5)

    pixels = torch.rand(20, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    rows = (pixels[:, 0, 0] > 0.5).float()
    found = masking_checks(Halves(), TensorBatches(pixels, rows), torch.ones(20, dtype=torch.bool), BUDGET)
    assert [check.name for check in found] == OF_ALL_LABELS
    assert failed_checks(found) == ()
    assert found[-1].text.startswith("share of adversarial decisions that are still wrong as files")


def test_without_a_right_image_there_is_nothing_to_check(network: nn.Module, batches: TensorBatches) -> None:
    assert masking_checks(network, batches, torch.zeros(9, dtype=torch.bool), BUDGET) == ()
