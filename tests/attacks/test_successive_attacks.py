"""Tests of kdcam.attacks.successive_attacks."""

import torch
from small_attacks import fooled
from torch import Tensor, nn

from kdcam.attacks.attack_settings import BimConfig, FgsmConfig, SquareConfig, StandardConfig
from kdcam.attacks.successive_attacks import attacks_in_turn


def test_each_stage_works_on_what_the_one_before_left(
    trained: nn.Module, attacked: tuple[Tensor, Tensor]
) -> None:
    images, labels = attacked
    seen: list[int] = []

    class Recording(SquareConfig):
        def perturb(self, model: nn.Module, images: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
            seen.append(len(images))
            assert (indices >= 1000).all()
            return super().perturb(model, images, targets, indices)

    first, second = FgsmConfig(eps=0.15), BimConfig(eps=0.15)
    stages = (first, second, Recording(eps=0.15, n_queries=20))
    indices = torch.arange(1000, 1300)
    found = attacks_in_turn(trained, images, labels, indices, lambda _: stages)
    by_fgsm = first.perturb(trained, images, labels, indices)
    by_bim = second.perturb(trained, images, labels, indices)
    fell, fell_later = fooled(trained, by_fgsm, labels), fooled(trained, by_bim, labels)
    assert seen == [int((~(fell | fell_later)).sum())]
    assert torch.equal(found[fell], by_fgsm[fell])
    assert (fooled(trained, found, labels) | ~(fell | fell_later)).all()


def test_standard_is_its_stages_in_turn(trained: nn.Module, attacked: tuple[Tensor, Tensor]) -> None:
    images, labels = attacked[0][:40], attacked[1][:40]
    config = StandardConfig(eps=0.15, apgd_steps=10, n_queries=50)
    indices = torch.arange(40)
    found = config.perturb(trained, images, labels, indices)
    each = [stage.perturb(trained, images, labels, indices) for stage in config.stages(10)]
    expected = torch.stack([fooled(trained, one, labels) for one in each]).any(0)
    assert torch.equal(fooled(trained, found, labels), expected)
    assert config.perturb(trained, images[:0], labels[:0], indices[:0]).shape == (0, 1, 8, 8)
