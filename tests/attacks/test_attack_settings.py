"""Tests of kdcam.attacks.attack_settings."""

import subprocess
import sys

import pytest

from kdcam.attacks.attack_settings import (
    ATTACKS,
    ApgdConfig,
    FgsmConfig,
    PgdConfig,
    StandardConfig,
    check_attacks,
)
from kdcam.attacks.budget import parse_fraction
from kdcam.errors import RecipeError
from kdcam.evaluation.robustness.robustness_settings import BudgetSettings, budget_settings


def test_defaults_are_fgsm_and_pgd_10_at_8_255() -> None:
    settings = BudgetSettings()
    fgsm, pgd = settings.configs()
    assert fgsm == FgsmConfig(norm="linf", eps=8 / 255)
    assert pgd == PgdConfig(norm="linf", eps=8 / 255, alpha=2 / 255, steps=10, restarts=1, seed=0)
    assert [fgsm.label, pgd.label] == ["fgsm", "pgd-10"]
    assert settings.n_examples == 1000


def test_usual_budgets_follow_the_norm_and_alpha_the_budget() -> None:
    assert BudgetSettings(norm="l2").eps == 0.5
    assert BudgetSettings(norm="l2").alpha == 0.125
    assert budget_settings({"eps": "4/255"}).alpha == pytest.approx(1 / 255)
    for name, kind in ATTACKS.items():
        assert kind(name=name).eps == 8 / 255
        assert kind(name=name, norm="l2").eps == 0.5


def test_steps_in_the_name_and_restarts_in_the_label() -> None:
    settings = budget_settings({"attacks": ["pgd-20", "bim", "mim-5"], "steps": 7, "restarts": 3})
    assert [config.label for config in settings.configs()] == ["pgd-20x3", "bim-7", "mim-5"]


def test_numbers_of_their_own_and_numbers_after_the_name() -> None:
    names = [
        "apgd-ce",
        "apgd-dlr-20",
        "apgd-t",
        "cw-margin",
        "cw-margin-5",
        "square",
        "square-1000",
        "standard",
    ]
    labels = [config.label for config in budget_settings({"attacks": names}).configs()]
    assert labels == [
        *("apgd-ce-100", "apgd-dlr-20", "apgd-t-100", "cw-margin-10", "cw-margin-5", "square-5000"),
        *("square-1000", "standard"),
    ]
    given = budget_settings({"attacks": ["apgd-ce", "pgd", "square"], "steps": 30, "eps": 0.1, "seed": 4})
    apgd, pgd, square = given.configs()
    assert (apgd.steps, pgd.steps, square.n_queries) == (30, 30, 5000)
    assert {config.eps for config in (apgd, pgd, square)} == {0.1}
    assert {config.seed for config in (apgd, pgd, square)} == {4}


@pytest.mark.parametrize(
    ("classes", "second"), [(2, "cw-margin"), (3, "apgd-dlr"), (4, "apgd-t"), (1000, "apgd-t")]
)
def test_standard_takes_what_so_many_classes_allow(classes: int, second: str) -> None:
    (standard,) = budget_settings({"attacks": ["standard"], "norm": "l2", "eps": 0.3, "seed": 2}).configs()
    stages = standard.stages(classes)
    assert [stage.name for stage in stages] == ["apgd-ce", second, "square"]
    assert {(stage.norm, stage.eps, stage.seed) for stage in stages} == {("l2", 0.3, 2)}
    assert [stages[0].steps, stages[1].steps, stages[2].n_queries] == [100, 100, 5000]
    check_attacks(stages, num_classes=classes, multi_label=False)
    check_attacks([standard], num_classes=classes, multi_label=False)


def test_which_attacks_go_on_behind_the_border_and_which_do_not_transfer() -> None:
    for name, kind in ATTACKS.items():
        assert kind.transfers is (name not in ("square", "standard", "autoattack"))
        # A single step has no border to stop at.
        assert ("stop_when_fooled" in kind.model_fields) is (kind.transfers and name != "fgsm")


def test_expected_passes_of_attacks_in_several_parts() -> None:
    standard = StandardConfig(apgd_steps=10, n_queries=50)
    assert standard.expected_passes == 30 + 9 * 30 + 50
    assert ATTACKS["autoattack"]().expected_passes == 10_000


def test_other_attacks_have_no_stages_and_a_weaker_standard_says_so() -> None:
    assert StandardConfig(apgd_steps=20).label == "standard-20-5000"
    assert FgsmConfig().stages(10) == ApgdConfig().stages(10) == ()


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        (
            "apgd-t",
            3,
            r"apgd-t: the targeted DLR loss needs at least 4 classes, found 3; take apgd-dlr \(3 classes\)",
        ),
        ("apgd-dlr", 2, "apgd-dlr: the DLR loss needs at least 3 classes, found 2; take cw-margin"),
        ("fgsm", 1, "fgsm: the cross-entropy needs at least 2 classes, found 1$"),
    ],
)
def test_too_few_classes_are_named(name: str, classes: int, message: str) -> None:
    configs = budget_settings({"attacks": [name]}).configs()
    with pytest.raises(RecipeError, match=f"^attacks: {message}"):
        check_attacks(configs, num_classes=classes, multi_label=False)
    check_attacks(configs, num_classes=classes + 1, multi_label=False)


def test_attacks_that_need_one_label_an_image_are_named_at_once() -> None:
    refused = ("apgd-dlr", "apgd-t", "cw-margin", "square", "standard")
    message = "; ".join(f"{name}: needs one label an image.*apgd-ce" for name in refused)
    with pytest.raises(RecipeError, match=f"^attacks: {message}$"):
        check_attacks(budget_settings({"attacks": refused}).configs(), num_classes=10, multi_label=True)
    allowed = budget_settings({"attacks": ["fgsm", "bim", "pgd", "mim", "apgd-ce"]}).configs()
    check_attacks(allowed, num_classes=1, multi_label=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255),
        (" 8 / 255 ", 8 / 255),
        ("0.03", 0.03),
        ("1e-2", 0.01),
        ("0.5/255", 0.5 / 255),
        (0.5, 0.5),
        (1, 1),
    ],
)
def test_fractions(text: str | float, value: float) -> None:
    assert parse_fraction(text) == value
    assert budget_settings({"eps": text}).eps == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8/0",
        "eight",
        "8/255/2",
        "__import__('os')",
        "1e400",
        "nan",
        "inf/2",
        "1e999999999",
        "1/1e999999999x",
    ],
)
def test_texts_that_are_no_number_are_named(text: str) -> None:
    with pytest.raises(RecipeError, match=r"eps: found .*must be a number or a fraction such as 8/255"):
        budget_settings({"eps": text})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"attacks": ["pdg"]}, "attacks: found 'pdg'; did you mean 'pgd'.*known: apgd-ce, .*bim, .*standard"),
        ({"attacks": ["pdg-20"]}, "attacks: found 'pdg-20'; did you mean 'pgd'"),
        ({"attacks": ["pgd-"]}, "attacks: found 'pgd-'; did you mean 'pgd'"),
        ({"attacks": ["-5"]}, "attacks: found '-5'; known"),
        (
            {"attacks": ["standard-3"]},
            r"attacks: found 'standard-3'.*\(autoattack, fgsm, standard have none\)",
        ),
        (
            {"attacks": ["pgd-0"]},
            "attacks: found 'pgd-0'; the number after pgd must be at least 1, as in pgd-10",
        ),
        ({"attacks": ["square-00"]}, "found 'square-00'; the number after square must be at least 1"),
        ({"attacks": ["fgsm-0"]}, r"found 'fgsm-0'.*fgsm, standard have none"),
        (
            {"attacks": ["fgsm", "pgd-20"], "steps": 50},
            "steps: found 50, but pgd-20 has its number in the name",
        ),
        ({"attacks": ["pgd-5", "apgd-ce-9"], "steps": 5}, "but pgd-5, apgd-ce-9 has its number in the name"),
        ({"attacks": ["square-5"], "steps": 5}, "steps: does nothing for square-5; add one of"),
        ({"attacks": ["fgsm-3"]}, r"attacks: found 'fgsm-3'.*fgsm, standard have none"),
        ({"attacks": []}, "name at least one attack"),
        ({"attacks": ["pgd", "pgd-10"]}, "each once"),
        ({"attacks": ["fgsm"], "restarts": 2}, "restarts: does nothing for fgsm; add one of .*pgd"),
        ({"attacks": ["standard"], "steps": 5}, "steps: does nothing for standard"),
        ({"attacks": ["fgsm"], "steps": 2}, "steps: does nothing for fgsm; add one of .*bim, .*mim, pgd"),
        ({"norm": "l1"}, "norm: found 'l1'; allowed: 'linf' or 'l2'"),
        ({"eps": "nan"}, "eps: found"),
        ({"eps": float("inf")}, "eps: found"),
        ({"eps": 0}, "eps: found 0; must be greater than 0"),
        ({"eps": 8}, "eps: found 8.*8/255"),
        ({"steps": 0}, "steps: found 0"),
        ({"n_examples": 0}, "n_examples: found 0"),
        ({"epsilon": 1}, "unknown key 'epsilon'; did you mean 'eps'"),
    ],
)
def test_settings_that_cannot_be_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        budget_settings(values)


def test_every_wrong_key_is_named_at_once() -> None:
    with pytest.raises(RecipeError, match=r"steps: found 0.*n_examples: found -1"):
        budget_settings({"steps": 0, "n_examples": -1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"eps": -1}, r"eps: found -1; must be greater than 0"),
        ({"norm": "l1"}, r"norm: found 'l1'; allowed: 'linf' or 'l2'"),
    ],
)
def test_defaults_that_hang_on_a_wrong_key_are_not_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=f"^{message}$"):
        budget_settings(values)


def test_reading_settings_does_not_import_torch() -> None:
    code = "import sys, kdcam.attacks.attack_settings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
