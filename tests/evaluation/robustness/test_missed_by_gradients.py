import torch
from tensor_batches import TensorBatches
from torch import Tensor, nn

from kdcam.attacks import pgd, square
from kdcam.attacks.attack_settings import FgsmConfig, PgdConfig, SquareConfig
from kdcam.attacks.budget import Budget
from kdcam.evaluation.robustness.attack_stages import planned_attacks
from kdcam.evaluation.robustness.gradient_masking_check import MaskingProbe
from kdcam.evaluation.robustness.missed_by_gradients import (
    LONG_ATTACK_STEPS,
    SQUARE_QUERIES,
    AttackGain,
    black_box_check,
    black_box_gain,
    black_box_gain_check,
    transfer_gain,
    transfer_gain_check,
)
from kdcam.evaluation.robustness.reference_runs import ReferenceNetwork

BUDGET = Budget("linf", 0.08)


class Crowded(nn.Module):
    """Linear in the grey level: class 1 is brighter; many unlikely classes together draw to the dark."""

    def forward(self, images: Tensor) -> Tensor:
        bright = 20 * (images.mean((1, 2, 3), keepdim=True).flatten(1) - 0.5)
        return torch.cat([0 * bright, bright - 1, (-bright - 5).expand(-1, 200)], 1)


class Blind(Crowded):
    """The same without a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).detach() + 0 * images.sum((1, 2, 3))[:, None]


def images_of_class_0() -> TensorBatches:
    return TensorBatches(torch.full((20, 1, 4, 4), 0.5), torch.zeros(20, dtype=torch.int64), batch_size=8)


def probe_of(network: nn.Module) -> MaskingProbe:
    return MaskingProbe(network, list(images_of_class_0().epoch(0)), BUDGET)


def test_square_finds_what_steps_on_the_cross_entropy_do_not() -> None:
    images, targets, eps = images_of_class_0().images, images_of_class_0().targets, BUDGET.eps
    stepped = pgd(
        Crowded(), images, targets, eps=eps, alpha=eps / 4, steps=LONG_ATTACK_STEPS, stop_when_fooled=True
    )
    searched = square(Crowded(), images, targets, eps=eps, n_queries=SQUARE_QUERIES)
    assert (Crowded()(stepped).argmax(1) == 0).all()
    assert (Crowded()(searched).argmax(1) == 1).all()


def test_images_that_steps_on_the_margin_find_are_no_sign_of_masking() -> None:
    found = black_box_check(probe_of(Crowded()))
    assert (found.value, found.passed, found.eps) == (0, True, 0.08)
    blind = black_box_check(probe_of(Blind()))
    assert (blind.value, blind.passed) == (1, False)
    assert blind.text.endswith("at linf eps 0.08")


def test_a_gain_is_held_against_longer_attacks() -> None:
    gain = AttackGain(share=0.2, norm="linf", eps=0.08, places=tuple(range(20)))
    for check in (black_box_gain_check, transfer_gain_check):
        honest, blind = (check(gain, probe_of(network), 100) for network in (Crowded(), Blind()))
        assert (honest.value, honest.passed) == (0, True)
        assert (blind.value, blind.passed, blind.eps) == (0.2, False, 0.08)
        assert "cw-margin-40 too" in blind.text


def test_a_gain_of_no_image_needs_none() -> None:
    nothing = AttackGain(share=0, norm="linf", eps=0.08, places=())
    found = transfer_gain_check(nothing, MaskingProbe(Crowded(), [], BUDGET), 100)
    assert (found.value, found.passed) == (0, True)


SOURCE = ReferenceNetwork("other", nn.Identity())


def kept(*rows: str) -> list[list[Tensor]]:
    return [[torch.tensor([mark == "1" for mark in row])] for row in rows]


def test_a_large_budget_does_not_hide_what_the_source_alone_fools_at_a_small_one() -> None:
    rows = planned_attacks(nn.Identity(), [FgsmConfig(eps=0.03), FgsmConfig(eps=0.5)], SOURCE, 2)
    assert [(row.source is None, row.attack.eps) for row in rows] == [
        (True, 0.03),
        (True, 0.5),
        (False, 0.03),
        (False, 0.5),
    ]
    gain = transfer_gain(rows, kept("1110", "0000", "1000", "0000"))
    assert gain == AttackGain(share=0.5, norm="linf", eps=0.03, places=(1, 2))
    assert transfer_gain(rows[:2], kept("1110", "0000")) is None


def test_the_gain_of_square_is_told_with_its_budget() -> None:
    attacks = [PgdConfig(eps=0.03), SquareConfig(eps=0.03), PgdConfig(eps=0.5), SquareConfig(eps=0.5)]
    rows = planned_attacks(nn.Identity(), attacks, None, 2)
    gain = black_box_gain(rows, kept("1111", "1011", "1100", "0000"))
    assert gain == AttackGain(share=0.5, norm="linf", eps=0.5, places=(0, 1))
