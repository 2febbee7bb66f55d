"""Tests of kdcam.robustness.config."""

import subprocess
import sys

import pytest

from kdcam.errors import RecipeError
from kdcam.robustness.config import (
    ATTACKS,
    FgsmConfig,
    PgdConfig,
    RobustnessSettings,
    parse_fraction,
    robustness_settings,
)


def test_defaults_are_fgsm_and_pgd_10_at_8_255() -> None:
    settings = RobustnessSettings()
    fgsm, pgd = settings.configs()
    assert fgsm == FgsmConfig(norm="linf", eps=8 / 255)
    assert pgd == PgdConfig(norm="linf", eps=8 / 255, alpha=2 / 255, steps=10, restarts=1, seed=0)
    assert [fgsm.label, pgd.label] == ["fgsm", "pgd-10"]
    assert settings.n_examples == 1000


def test_usual_budgets_follow_the_norm_and_alpha_the_budget() -> None:
    assert RobustnessSettings(norm="l2").eps == 0.5
    assert RobustnessSettings(norm="l2").alpha == 0.125
    assert robustness_settings({"eps": "4/255"}).alpha == pytest.approx(1 / 255)
    for kind in ATTACKS.values():
        assert kind().eps == 8 / 255
        assert kind(norm="l2").eps == 0.5


def test_steps_in_the_name_and_restarts_in_the_label() -> None:
    settings = robustness_settings({"attacks": ["pgd-20", "bim", "mim-5"], "steps": 7, "restarts": 3})
    assert [config.label for config in settings.configs()] == ["pgd-20x3", "bim-7", "mim-5"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("8/255", 8 / 255), (" 8 / 255 ", 8 / 255), ("0.03", 0.03), ("1e-2", 0.01), (0.5, 0.5), (1, 1)],
)
def test_fractions(text: str | float, value: float) -> None:
    assert parse_fraction(text) == value
    assert robustness_settings({"eps": text}).eps == value


@pytest.mark.parametrize("text", ["", "8/0", "eight", "8/255/2", "__import__('os')"])
def test_texts_that_are_no_number_are_named(text: str) -> None:
    with pytest.raises(RecipeError, match=r"eps: found .*must be a number or a fraction such as 8/255"):
        robustness_settings({"eps": text})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"attacks": ["pdg"]}, "attacks: found 'pdg'; did you mean 'pgd'.*known: bim, fgsm, mim, pgd"),
        ({"attacks": ["pgd-0"]}, "attacks: found 'pgd-0'"),
        ({"attacks": ["fgsm-3"]}, "fgsm has no steps"),
        ({"attacks": []}, "name at least one attack"),
        ({"attacks": ["pgd", "pgd-10"]}, "each once"),
        ({"attacks": ["fgsm"], "restarts": 2}, "restarts: does nothing for fgsm; add one of pgd"),
        ({"attacks": ["fgsm"], "steps": 2}, "steps: does nothing for fgsm; add one of bim, mim, pgd"),
        ({"norm": "l1"}, "norm: found 'l1'; allowed: 'linf' or 'l2'"),
        ({"eps": "nan"}, "eps: found"),
        ({"eps": 0}, "eps: found 0; must be greater than 0"),
        ({"eps": 8}, "eps: found 8.*8/255"),
        ({"steps": 0}, "steps: found 0"),
        ({"n_examples": 0}, "n_examples: found 0"),
        ({"epsilon": 1}, "unknown key 'epsilon'; did you mean 'eps'"),
    ],
)
def test_settings_that_cannot_be_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        robustness_settings(values)


def test_every_wrong_key_is_named_at_once() -> None:
    with pytest.raises(RecipeError, match=r"steps: found 0.*n_examples: found -1"):
        robustness_settings({"steps": 0, "n_examples": -1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eps": -1}, r"eps: found -1; must be greater than 0"),
        ({"norm": "l1"}, r"norm: found 'l1'; allowed: 'linf' or 'l2'"),
    ],
)
def test_defaults_that_hang_on_a_wrong_key_are_not_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=f"^{message}$"):
        robustness_settings(values)


def test_reading_settings_does_not_import_torch() -> None:
    code = "import sys, kdcam.robustness.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
