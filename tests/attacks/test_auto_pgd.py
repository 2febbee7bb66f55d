"""Tests of kdcam.attacks.auto_pgd; beside other implementations: test_peers.py."""

from copy import deepcopy

import pytest
import torch
from small_attacks import Linear, fooled, loss
from torch import Tensor, nn

from kdcam.attacks import CountedClassifier, apgd, apgd_targeted, pgd
from kdcam.attacks.auto_pgd import _checkpoints
from kdcam.attacks.objective import margin_loss
from kdcam.errors import ModelError


class Peak(nn.Module):
    """A loss that is highest where the only pixel is 0.53; the label 0 is always right."""

    def forward(self, images: Tensor) -> Tensor:
        score = -(images.sum((1, 2, 3)) - 0.53).abs() - 1
        return torch.stack([torch.zeros_like(score), score], dim=1)


def test_checkpoints_are_the_papers() -> None:
    # p = 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 of the steps, and the waits between them
    assert _checkpoints(100) == {22: 22, 41: 19, 57: 16, 70: 13, 80: 10, 87: 7, 93: 6, 99: 6}
    assert _checkpoints(1) == {1: 1}
    for steps in (2, 7, 33):
        waits = _checkpoints(steps)
        assert list(waits) == sorted(waits)
        assert sum(waits.values()) == max(waits) <= steps


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steps_shrink_until_the_peak_is_met(norm: str) -> None:
    images, labels = torch.full((3, 1, 1, 1), 0.5), torch.zeros(3, dtype=torch.int64)
    far = pgd(Peak(), images, labels, eps=0.1, alpha=0.2, steps=60, norm=norm)
    assert (far - 0.53).abs().max() > 0.03  # steps of twice eps jump to and fro
    # Halved at each of 8 checkpoints: 0.2 / 2^8.
    near = apgd(Peak(), images, labels, eps=0.1, norm=norm)
    assert (near - 0.53).abs().max() < 0.002


def test_an_image_drops_out_as_soon_as_it_is_fooled(
    trained: nn.Module, attacked: tuple[Tensor, Tensor]
) -> None:
    counted = CountedClassifier(trained)
    found = apgd(counted, *attacked, eps=0.15, steps=20)
    standing = int((~fooled(trained, found, attacked[1])).sum())
    assert 0 < standing < 300
    # Those that stand took all steps; most others fell within a few.
    assert standing * 21 < counted.forwards < standing * 21 + (300 - standing) * 6
    assert counted.backwards == counted.forwards - standing  # no gradient after the last step


def test_to_the_end_an_image_goes_far_behind_the_border_and_fools_another_network(
    trained: nn.Module, attacked: tuple[Tensor, Tensor]
) -> None:
    images, labels = attacked
    other = deepcopy(trained)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.3 * parameter.std() * torch.randn(parameter.shape, generator=generator)
    counted = CountedClassifier(trained)
    at_the_border = apgd(trained, images, labels, eps=0.15, steps=20)
    behind = apgd(counted, images, labels, eps=0.15, steps=20, stop_when_fooled=False)
    assert (counted.forwards, counted.backwards) == (300 * 21, 300 * 20)
    assert (loss(trained, behind, labels) >= loss(trained, at_the_border, labels) - 1e-5).all()
    own = [fooled(trained, found, labels).sum() for found in (at_the_border, behind)]
    assert own[1] >= own[0] - 3  # the highest loss is nearly always a wrong answer
    transferred = [fooled(other, found, labels).sum() for found in (at_the_border, behind)]
    assert transferred[1] > transferred[0] + 5


def test_to_the_end_each_class_is_aimed_at_until_one_fools(
    trained: nn.Module, attacked: tuple[Tensor, Tensor]
) -> None:
    images, labels = attacked
    settings = {"eps": 0.15, "steps": 10, "n_target_classes": 2}
    counted = CountedClassifier(trained)
    behind = apgd_targeted(counted, images, labels, stop_when_fooled=False, **settings)
    assert 300 + 300 * 11 < counted.forwards < 300 + 2 * 300 * 11
    assert (counted.forwards - 300) % 11 == 0  # whole searches only
    at_the_border = apgd_targeted(trained, images, labels, **settings)
    assert margin_loss(trained(behind), labels).mean() > margin_loss(trained(at_the_border), labels).mean()


def test_restarts_go_on_with_what_stands(trained: nn.Module, attacked: tuple[Tensor, Tensor]) -> None:
    one, three = (
        apgd(trained, *attacked, eps=0.15, steps=10, restarts=restarts, loss="dlr") for restarts in (1, 3)
    )
    fell = fooled(trained, one, attacked[1])
    assert torch.equal(three[fell], one[fell])
    assert fooled(trained, three, attacked[1]).sum() >= fell.sum()


def test_random_starts_follow_from_the_seed(trained: nn.Module, attacked: tuple[Tensor, Tensor]) -> None:
    images, labels = attacked[0][:8], attacked[1][:8]
    tries = [apgd(trained, images, labels, eps=0.05, steps=3, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(tries[0], tries[1])
    assert not torch.equal(tries[0], tries[2])


def test_more_target_classes_fool_more(trained: nn.Module, attacked: tuple[Tensor, Tensor]) -> None:
    few, many = (
        fooled(
            trained, apgd_targeted(trained, *attacked, eps=0.15, steps=15, n_target_classes=n), attacked[1]
        )
        for n in (1, 4)
    )
    assert (many | ~few).all()
    assert many.sum() > few.sum()


def test_classes_beyond_the_last_are_not_aimed_at() -> None:
    images, labels = torch.full((2, 1, 2, 2), 0.5), torch.ones(2, dtype=torch.int64)
    counted = CountedClassifier(Linear(torch.ones(1, 2, 2), classes=4))
    apgd_targeted(counted, images, labels, eps=0.01, steps=5)
    assert counted.forwards == 2 + 3 * 2 * 6  # once for the order of the classes; 3 rivals, 6 looks each


@pytest.mark.parametrize("classes", [2, 3])
def test_too_few_classes_are_named(classes: int) -> None:
    model = Linear(torch.ones(1, 2, 2), classes=classes)
    images, labels = torch.full((2, 1, 2, 2), 0.5), torch.ones(2, dtype=torch.int64)
    with pytest.raises(
        ModelError, match=rf"targeted DLR loss needs at least 4 classes, found {classes}; take"
    ):
        apgd_targeted(model, images, labels, eps=0.1)
    if classes == 2:
        with pytest.raises(
            ModelError, match="the DLR loss needs at least 3 classes, found 2; take cw-margin"
        ):
            apgd(model, images, labels, eps=0.1, loss="dlr")
    else:
        assert apgd(model, images, labels, eps=0.01, loss="dlr").shape == images.shape


def test_counts_below_one_are_refused(trained: nn.Module, attacked: tuple[Tensor, Tensor]) -> None:
    for key in ("steps", "restarts"):
        with pytest.raises(ValueError, match=f"{key} is 0; wanted at least 1"):
            apgd(trained, *attacked, eps=0.1, **{key: 0})
    with pytest.raises(ValueError, match="n_target_classes is 0; wanted at least 1"):
        apgd_targeted(trained, *attacked, eps=0.1, n_target_classes=0)
    with pytest.raises(ValueError, match=r"eps is 8; wanted \[0, 1\] pixel units"):
        apgd(trained, *attacked, eps=8)
