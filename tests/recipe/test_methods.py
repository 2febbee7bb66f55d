import pytest

from kdcam.errors import RecipeError
from kdcam.losses import LOSSES
from kdcam.recipe.methods import apply_method, method_config, method_losses, method_names
from kdcam.recipe.recipe_files import read_toml, shipped_recipes
from kdcam.recipe.train_recipe import load_recipe, read_recipe, recipe_schema

PAIR = "distillation/cifar100-resnet56-resnet20"
TABLE = {"data": {"name": "digits"}, "teacher": {"checkpoint": "x"}}


@pytest.mark.parametrize("method", method_names())
def test_every_method_is_a_recipe(method: str) -> None:
    recipe = load_recipe(PAIR, method=method)
    assert any(need.startswith("teacher.") for loss in recipe.loss for need in loss.needs)
    assert recipe.loss[0].name == "cross_entropy"


def test_a_loss_without_a_teacher_is_no_method() -> None:
    assert "cam" in LOSSES
    with pytest.raises(RecipeError, match=r"method: found 'cam'.*allowed: .*kd"):
        method_losses("cam")
    with pytest.raises(RecipeError, match=r"found 'dkdd'.*did you mean 'dkd'"):
        method_losses("dkdd")


def test_kd_is_weighed_as_repdistiller_does() -> None:
    labels, kd = load_recipe(PAIR, method="kd").loss
    assert (labels.weight, kd.weight, kd.temperature) == (0.1, 0.9, 4.0)  # type: ignore[attr-defined]


def test_the_flag_counts_before_the_recipe_and_overrides_after_both() -> None:
    assert load_recipe(PAIR).loss == load_recipe(PAIR, method="kd").loss
    changed = load_recipe(PAIR, ["loss.dkd.beta=2.0"], method="dkd")
    assert changed.loss[1].name == "dkd"
    assert changed.loss[1].beta == 2.0  # type: ignore[attr-defined]


def test_the_published_number_is_the_methods() -> None:
    published = load_recipe(PAIR, method="crd").published
    assert published is not None
    assert published.accuracy == 71.16
    assert load_recipe(PAIR, method="kd_caam_cam").published is None
    plain = {**TABLE, "loss": [{"name": "kd"}, {"name": "cross_entropy"}]}
    one = {"accuracy": 70.0, "source": "a paper"}
    assert read_recipe({**plain, "published": one}, source="x").published is not None
    assert (
        read_recipe({**plain, "published": {"kd": one}}, source="x").published is None
    )  # which one is not said


def test_a_plain_number_goes_with_the_losses_that_a_method_replaces() -> None:
    one = {"accuracy": 70.0, "source": "a paper"}
    for own in ({"loss": [{"name": "cross_entropy"}, {"name": "caam_cam"}]}, {"method": "dkd"}, {}):
        table = {**TABLE, **own, "published": dict(one)}
        apply_method(table, "kd")
        assert "published" not in table
    table = {**TABLE, "method": "kd", "published": dict(one)}
    apply_method(table, "kd")  # as the recipe has it
    assert table["published"] == one


def test_settings_of_the_pair_go_to_the_methods_own_loss() -> None:
    assert load_recipe(PAIR, method="dkd").loss[1].beta == 2.0  # type: ignore[attr-defined]
    assert LOSSES["dkd"]().beta == 8.0  # type: ignore[attr-defined, call-arg]
    assert load_recipe(PAIR, ["methods.dkd.beta=3.0"], method="dkd").loss[1].beta == 3.0  # type: ignore[attr-defined]
    assert load_recipe(PAIR, ["loss.dkd.beta=4.0"], method="dkd").loss[1].beta == 4.0  # type: ignore[attr-defined]
    hotter = load_recipe("distillation/cifar100-resnet50-mobilenetv2", method="kd_standardized").loss
    assert (hotter[0].weight, hotter[1].weight, hotter[1].temperature) == (0.1, 1.0, 3.0)  # type: ignore[attr-defined]
    table = {**TABLE, "method": "kd", "methods": {"dkd": {"beta": 2.0}, "kd": {"temperature": 2}}}
    apply_method(table, None)
    assert table["loss"] == [
        {"name": "cross_entropy", "weight": 0.1},
        {"name": "kd", "weight": 0.9, "temperature": 2},
    ]  # type: ignore[comparison-overlap]
    assert "methods" not in table
    assert method_losses("kd")[1]["temperature"] == 4.0  # the method itself stays as it is


def test_settings_without_a_method_are_checked_and_left_out() -> None:
    table = {"data": {"name": "digits"}, "methods": {"dkd": {"beta": 2.0}}}
    assert [loss.name for loss in read_recipe(table, source="x").loss] == ["cross_entropy"]
    assert read_recipe(table | {"methods": {}}, source="x").loss


@pytest.mark.parametrize(
    ("methods", "match"),
    [
        ({"dkdd": {"beta": 2}}, r"^methods.dkdd: unknown method; did you mean 'dkd'\?; allowed: .*dkd"),
        (
            {"dkd": {"betta": 2}},
            r"^methods.dkd: unknown key 'betta'; did you mean 'beta'\?; known keys: .*alpha",
        ),
        ({"dkd": {"beta": -2}}, r"^methods.dkd.beta: found -2; must be at least 0"),
        ({"dkd": {"name": "kd"}}, r"^methods.dkd.name: found 'kd'; allowed: 'dkd'"),
        ({"cat_kd": {"resolution": 1}}, r"^methods.cat_kd: resolution = 1 with normalize = true"),
        ({"dkd": 3}, r"^methods.dkd: found 3; must be a table"),
        (3, r"^methods: found 3; must be tables of methods"),
        ({"dkd": {"beta": -2, "alpha": -1}}, r"methods: 2 problems:\n  methods.dkd.\w+: .*\n  methods.dkd"),
    ],
)
def test_wrong_settings_of_methods_are_refused(methods: object, match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        read_recipe({**TABLE, "method": "kd", "methods": methods}, source="x")


def test_an_override_chooses_the_method() -> None:
    chosen = load_recipe(PAIR, ["loss.dkd.alpha=0.5", "method=dkd"])
    assert [loss.name for loss in chosen.loss] == ["cross_entropy", "dkd"]
    assert (chosen.loss[1].alpha, chosen.loss[1].beta) == (0.5, 2.0)  # type: ignore[attr-defined]
    assert chosen.published is not None
    assert chosen.published.accuracy == 71.97
    assert load_recipe(PAIR, ["method=dkd"], method="crd").loss[1].name == "crd"
    assert load_recipe(PAIR, ["method=dkd", "method='crd'"]).loss[1].name == "crd"
    replaced = load_recipe("quickstart/student", ["teacher.checkpoint=x", "method=dkd"])
    assert replaced.loss[1].name == "dkd"
    with pytest.raises(RecipeError, match=r"method: found 'dkdd'; did you mean 'dkd'"):
        load_recipe(PAIR, ["method=dkdd"])


def test_labels_are_taught_as_the_task_has_them() -> None:
    rows = ["data.name=digit-scenes", "data.multi_label=true", "data.validation=0.2", "teacher.checkpoint=x"]
    several = [*rows, "task=multi-label"]
    recipe = load_recipe("digits", several, method="fitnet")
    assert [loss.name for loss in recipe.loss] == ["binary_cross_entropy", "fitnet"]
    with pytest.raises(RecipeError, match=r"loss\[1\] \(kd\): takes labels, mixed as targets, and task"):
        load_recipe("digits", several, method="kd")


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
    document = recipe_schema()
    assert "kd_standardized" in document["properties"]["method"]["enum"]
    settings = document["properties"]["methods"]["properties"]
    assert list(settings) == method_names()
    for method, reference in settings.items():
        definition = document["$defs"][reference["$ref"].removeprefix("#/$defs/")]
        assert definition["properties"]["name"]["const"] == method_config(method).model_fields["name"].default


def test_the_standard_table_has_thirteen_pairs_on_three_data_sets() -> None:
    names = [name for name in shipped_recipes() if name.startswith("distillation/")]
    for data in ("cifar100", "cifar10", "tiny"):
        pairs = [n for n in names if n.startswith(f"distillation/{data}-") and not n.endswith("-alone")]
        assert len(pairs) == 13


@pytest.mark.parametrize(
    "name", [name for name in shipped_recipes() if name.startswith("distillation/cifar100-")]
)
def test_a_published_number_has_its_settings_or_says_that_they_are_not_told(name: str) -> None:
    table = read_toml(name)
    settings, published = table.get("methods", {}), table.get("published", {})
    for method in ("dkd", "cat_kd", "review_kd", "dist"):
        if method in published and method not in settings:
            assert "settings not told, here the defaults" in published[method]["source"]


@pytest.mark.parametrize("data", ["cifar10", "tiny"])
def test_a_pair_has_the_same_settings_on_all_data_sets(data: str) -> None:
    for name in shipped_recipes():
        if name.startswith(f"distillation/{data}-"):
            twin = read_toml(name.replace(f"/{data}-", "/cifar100-"))
            assert read_toml(name).get("methods") == twin.get("methods")
