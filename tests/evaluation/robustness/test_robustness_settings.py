import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kdcam.errors import RecipeError
from kdcam.evaluation.robustness.robustness_settings import robustness_evaluation_settings


def test_without_any_setting_one_budget_and_checks() -> None:
    found = robustness_evaluation_settings({})
    (budget,) = found.budgets
    assert budget.attacks == ("fgsm", "pgd")
    assert (found.checks, found.attack, found.from_zero, found.n_examples) == (True, True, False, 1000)


@pytest.mark.parametrize("eps", ["8/255, 0, 2/255", ["8/255", 0, "2/255"], (8 / 255, 0.0, 2 / 255)])
def test_several_budgets_from_small_to_large(eps: Any) -> None:
    found = robustness_evaluation_settings({"eps": eps, "attacks": ["fgsm"], "n_examples": 7})
    assert [budget.eps for budget in found.budgets] == [2 / 255, 8 / 255]
    assert [budget.n_examples for budget in found.budgets] == [7, 7]
    assert found.from_zero


def test_a_step_is_a_quarter_of_each_budget_unless_given() -> None:
    found = robustness_evaluation_settings({"eps": "0.1,0.2"})
    assert [budget.alpha for budget in found.budgets] == pytest.approx([0.025, 0.05])
    found = robustness_evaluation_settings({"eps": "0.1,0.2", "alpha": 0.01})
    assert [budget.alpha for budget in found.budgets] == [0.01, 0.01]


@pytest.mark.parametrize(
    ("given", "meant"), [("1..3", (1, 2, 3)), ("1,5", (1, 5)), ("4", (4,)), ((2, 3), (2, 3))]
)
def test_severities(given: Any, meant: tuple[int, ...]) -> None:
    assert robustness_evaluation_settings({"corruptions": ["jpeg"], "severities": given}).severities == meant


def test_no_attacks() -> None:
    found = robustness_evaluation_settings(
        {"attacks": ["none"], "corruptions": ["all"], "n_examples": 5, "seed": 3}
    )
    assert (found.attack, found.n_examples, found.seed) == (False, 5, 3)
    assert found.sections == ("corruptions",)


def test_a_seed_is_of_use_to_corruptions_where_no_attack_draws() -> None:
    found = robustness_evaluation_settings({"attacks": ["fgsm"], "corruptions": ["all"], "seed": 3})
    assert found.seed == 3
    assert found.sections == ("attacks", "checks", "corruptions")
    drawing = robustness_evaluation_settings({"attacks": ["pgd"], "corruptions": ["all"], "seed": 3})
    assert [config.seed for config in drawing.budgets[0].configs()] == [3]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"eps": "0"}, r"eps: found 0.*at least one above 0"),
        ({"eps": "2/255,2/255"}, r"eps: found .*name each once"),
        ({"eps": "eight"}, r"eps: .*'eight'.*8/255"),
        ({"eps": "8"}, r"eps: found 8; lengths are in \[0, 1\]"),
        ({"corruptions": ["jpg"]}, r"corruptions: found 'jpg'; did you mean 'jpeg'\?"),
        ({"corruptions": ["jpeg", "jpeg"]}, r"corruptions: found jpeg, jpeg; name each once"),
        ({"corruptions": ["jpeg"], "severities": "0..6"}, r"severities\[0\]"),
        ({"corruptions": ["jpeg"], "severities": "mild"}, r"severities.*'mild'.*1\.\.5"),
        ({"corruptions": ["jpeg"], "severities": "5..1"}, r"severities"),
        ({"corruptions": ["jpeg"], "severities": "1..99999999999"}, r"severities.*'1\.\.9+'.*1\.\.5"),
        ({"corruptions": ["jpeg"], "severities": range(1, 10**12)}, r"severities\[5\]"),
        ({"attacks": None}, r"attacks: found None"),
        ({"attacks": 5}, r"attacks: found 5"),
        ({"eps": [1, 1.0]}, r"eps: found 1, 1\.0; name each once"),
        ({"eps": ["8/255", 8 / 255]}, r"eps: found .*; name each once"),
        ({"severities": "1,2"}, r"severities: does nothing without corruptions"),
        ({"base": "runs/x"}, r"base: does nothing without corruptions"),
        ({"attacks": ["none"], "source": "runs/x"}, r"source: does nothing without attacks"),
        ({"attacks": ["none"], "checks": False}, r"checks: does nothing without attacks"),
        (
            {"attacks": ["none"], "steps": 20, "eps": 0.1},
            r"eps: does nothing with attacks none; leave eps, steps",
        ),
        (
            {"attacks": ["none"], "calibration": True, "n_examples": 5},
            r"n_examples: does nothing.*or name some attacks, corruptions, corrupted_set",
        ),
        ({"attacks": ["none"], "corrupted_set": "x", "seed": 1}, r"seed: does nothing"),
        ({"attacks": ["fgsm"], "seed": 1}, r"seed: does nothing for fgsm"),
        ({"corruptions": ["all"], "seed": -1}, r"seed"),
        ({"colour": 1}, r"unknown key 'colour'"),
        ({"attacks": ["pgdd"]}, r"pgdd"),
    ],
)
def test_what_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        robustness_evaluation_settings(values)


def test_settings_are_read_without_torch() -> None:
    code = "import sys, kdcam.evaluation.robustness.robustness_settings; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parent).returncode == 0
    )
