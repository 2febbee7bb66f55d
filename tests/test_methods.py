import pytest

from kdcam.errors import RecipeError
from kdcam.losses import LOSSES
from kdcam.methods import apply_method, method_losses, method_names
from kdcam.recipe import load, read_recipe, schema
from kdcam.recipe_files import shipped_recipes

PAIR = "distillation/cifar100-resnet56-resnet20"
TABLE = {"data": {"name": "digits"}, "teacher": {"checkpoint": "x"}}


@pytest.mark.parametrize("method", method_names())
def test_every_method_is_a_recipe(method: str) -> None:
    recipe = load(PAIR, method=method)
    assert any(need.startswith("teacher.") for loss in recipe.loss for need in loss.needs)
    assert recipe.loss[0].name == "cross_entropy"


def test_a_loss_without_a_teacher_is_no_method() -> None:
    assert "cam" in LOSSES
    with pytest.raises(RecipeError, match=r"method: found 'cam'.*allowed: .*kd"):
        method_losses("cam")
    with pytest.raises(RecipeError, match=r"found 'dkdd'.*did you mean 'dkd'"):
        method_losses("dkdd")


def test_kd_is_weighed_as_repdistiller_does() -> None:
    labels, kd = load(PAIR, method="kd").loss
    assert (labels.weight, kd.weight, kd.temperature) == (0.1, 0.9, 4.0)  # type: ignore[attr-defined]


def test_the_flag_counts_before_the_recipe_and_overrides_after_both() -> None:
    assert load(PAIR).loss == load(PAIR, method="kd").loss
    changed = load(PAIR, ["loss.dkd.beta=2.0"], method="dkd")
    assert changed.loss[1].name == "dkd"
    assert changed.loss[1].beta == 2.0  # type: ignore[attr-defined]


def test_the_published_number_is_the_methods() -> None:
    published = load(PAIR, method="crd").published
    assert published is not None
    assert published.accuracy == 71.16
    assert load(PAIR, method="kd_caam_cam").published is None
    plain = {**TABLE, "loss": [{"name": "kd"}, {"name": "cross_entropy"}]}
    one = {"accuracy": 70.0, "source": "a paper"}
    assert read_recipe({**plain, "published": one}, source="x").published is not None
    assert (
        read_recipe({**plain, "published": {"kd": one}}, source="x").published is None
    )  # which one is not said


def test_a_method_and_losses_contradict_each_other() -> None:
    table = {**TABLE, "method": "kd", "loss": [{"name": "cross_entropy"}]}
    with pytest.raises(RecipeError, match=r"method: found 'kd' beside \[\[loss\]\] tables"):
        read_recipe(table, source="x")
    apply_method(table, "dkd")  # the flag replaces both
    assert [loss["name"] for loss in table["loss"]] == ["cross_entropy", "dkd"]  # type: ignore[index]


def test_a_table_that_is_read_stays_as_it_was() -> None:
    table = {**TABLE, "method": "kd"}
    read_recipe(table, source="x")
    assert table == {**TABLE, "method": "kd"}


def test_the_schema_knows_methods() -> None:
    assert "kd_standardized" in schema()["properties"]["method"]["enum"]


def test_the_standard_table_has_thirteen_pairs_on_three_data_sets() -> None:
    names = [name for name in shipped_recipes() if name.startswith("distillation/")]
    for data in ("cifar100", "cifar10", "tiny"):
        pairs = [n for n in names if n.startswith(f"distillation/{data}-") and not n.endswith("-alone")]
        assert len(pairs) == 13
