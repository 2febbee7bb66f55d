import torch
from torch import Tensor, nn

from kdcam.attacks.attack_settings import FgsmConfig, PgdConfig, SquareConfig
from kdcam.evaluation.robustness.attack_stages import planned_attacks
from kdcam.evaluation.robustness.missed_by_gradients import AttackGain, black_box_gain, transfer_gain
from kdcam.evaluation.robustness.reference_runs import ReferenceNetwork

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
