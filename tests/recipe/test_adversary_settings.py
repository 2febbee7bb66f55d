"""What an [adversary] table may say, and what a recipe may say beside it."""

import subprocess
import sys
from typing import Any

import pytest

from kdcam.errors import RecipeError
from kdcam.recipe.adversary_settings import AdversaryConfig
from kdcam.recipe.recipe_files import shipped_recipes
from kdcam.recipe.train_recipe import TrainRecipe, load_recipe, read_recipe, recipe_schema

CE: dict[str, Any] = {"name": "cross_entropy"}
CLEAN_CE = {**CE, "images": "clean"}
TEACHER = {"checkpoint": "x"}


def recipe_with(**tables: Any) -> TrainRecipe:
    return read_recipe({"data": {"name": "digits"}, **tables}, source="mine")


@pytest.mark.parametrize(
    ("table", "eps", "steps", "alpha"),
    [
        ({}, 8 / 255, 7, 2 / 255),
        ({"norm": "l2"}, 0.5, 7, 0.125),
        ({"eps": "16/255"}, 16 / 255, 7, 4 / 255),
        ({"eps": 0.3, "steps": 40, "alpha": 0.01}, 0.3, 40, 0.01),
        ({"attack": "fgsm"}, 8 / 255, 1, 10 / 255),
        ({"attack": "fgsm", "random_start": False}, 8 / 255, 1, 8 / 255),
    ],
)
def test_what_is_left_out_follows_from_attack_and_norm(
    table: dict[str, Any], eps: float, steps: int, alpha: float
) -> None:
    config = recipe_with(adversary=table).adversary
    assert config is not None
    assert (config.eps, config.steps, config.alpha) == pytest.approx((eps, steps, alpha))


def test_a_recipe_without_the_table_has_no_adversary() -> None:
    assert recipe_with().adversary is None


def test_overrides_reach_the_table() -> None:
    recipe = load_recipe("robustness/mnist-madry", ["adversary.eps=25/255", "adversary.steps=3"])
    assert recipe.adversary is not None
    assert (recipe.adversary.eps, recipe.adversary.steps) == (pytest.approx(25 / 255), 3)


def test_resolved_table_reads_back_as_itself() -> None:
    for table in ({}, {"attack": "fgsm", "eps": "4/255"}, {"norm": "l2", "maximise": "kl_to_clean"}):
        config = AdversaryConfig.model_validate(table)
        assert AdversaryConfig.model_validate(config.model_dump(mode="json")) == config


def test_schema_has_the_table_and_the_key_of_losses() -> None:
    keys = recipe_schema()["$defs"]
    assert set(keys["AdversaryConfig"]["properties"]) == set(AdversaryConfig.model_fields)
    assert keys["KdConfig"]["properties"]["images"]["enum"] == ["trained", "clean"]


@pytest.mark.parametrize(
    ("tables", "match"),
    [
        ({"adversary": {"attack": "bim"}}, r"adversary.attack: found 'bim'; allowed: 'pgd' or 'fgsm'"),
        ({"adversary": {"epsilon": 0.1}}, r"adversary: unknown key 'epsilon'.*known keys: attack, norm, eps"),
        ({"adversary": {"eps": "8:255"}}, r"adversary.eps: found '8:255'; must be a number or a fraction"),
        ({"adversary": {"eps": 0}}, r"adversary.eps: found 0; must be greater than 0"),
        ({"adversary": {"eps": 8}}, r"adversary: eps: found 8; lengths are in \[0, 1\] pixel units"),
        ({"adversary": {"steps": 0}}, r"adversary.steps: found 0; must be at least 1"),
        (
            {"adversary": {"attack": "fgsm", "steps": 5}},
            r'steps: found 5 with attack = "fgsm", which does one; leave steps out, or set attack = "pgd"',
        ),
        (
            {"adversary": {"maximise": "kl_to_clean", "random_start": False}},
            r'found false with maximise = "kl_to_clean", whose gradient is zero.*set random_start = true',
        ),
        (
            {"loss": [CE, {"name": "kl_to_clean"}]},
            r"loss\[1\] \(kl_to_clean\): compares .*clean and of adversarial.*add an \[adversary\] table",
        ),
        (
            {"loss": [CE, CLEAN_CE]},
            r'loss\[1\] \(cross_entropy\).images: found "clean" without an \[adversary\] table',
        ),
        (
            {"adversary": {}, "loss": [CE, {"name": "kl_to_clean", "images": "clean"}]},
            r'loss\[1\] \(kl_to_clean\).images: found "clean", but the loss reads the adversarial images',
        ),
        (
            {"adversary": {}, "loss": [CLEAN_CE]},
            r'adversary: every loss has images = "clean", so that no adversarial image is trained on',
        ),
        (
            {"adversary": {"maximise": "kl_to_teacher"}},
            r'adversary.maximise: found "kl_to_teacher" without a teacher; name one \(kdcam distill',
        ),
        ({"adversary": {}, "teacher": TEACHER, "loss": [CE]}, r"loss: no term reads the teacher; add one"),
        (
            {
                "data": {"name": "digit-scenes", "multi_label": True},
                "task": "multi-label",
                "adversary": {"maximise": "kl_to_clean"},
                "loss": [{"name": "binary_cross_entropy"}],
            },
            r'adversary.maximise: found "kl_to_clean" with task = "multi-label".*maximise = "cross_entropy"',
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(tables: dict[str, Any], match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        recipe_with(**tables)


@pytest.mark.parametrize(
    "tables",
    [
        {"adversary": {"maximise": "kl_to_clean"}, "loss": [CLEAN_CE, {"name": "kl_to_clean"}]},
        {
            "adversary": {"maximise": "kl_to_teacher"},
            "teacher": {**TEACHER, "cache": "views"},
            "loss": [{"name": "kd"}, {"name": "kd", "images": "clean"}],
        },
        {
            "adversary": {"maximise": "kl_to_teacher"},
            "teacher": {**TEACHER, "cache": "views"},
            "loss": [CE, {"name": "caam_cam"}],
        },
        {"adversary": {"maximise": "kl_to_teacher"}, "teacher": TEACHER, "loss": [CE]},
        {"adversary": {}, "data": {"name": "digits", "mixup": 0.2}},
        {
            "data": {"name": "digit-scenes", "multi_label": True},
            "task": "multi-label",
            "adversary": {},
            "loss": [{"name": "binary_cross_entropy"}],
        },
    ],
)
def test_what_fits_is_taken(tables: dict[str, Any]) -> None:
    assert recipe_with(**tables).adversary is not None


def test_every_robustness_recipe_has_an_adversary() -> None:
    names = [name for name in shipped_recipes() if name.startswith("robustness/")]
    assert len(names) >= 4
    assert all(load_recipe(name).adversary is not None for name in names)


def test_is_read_without_torch() -> None:
    code = "import sys, kdcam.recipe.adversary_settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
