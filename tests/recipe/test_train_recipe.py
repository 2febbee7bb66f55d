from pathlib import Path
from typing import Any

import pytest

from kdcam.errors import RecipeError
from kdcam.recipe.recipe_files import recipe_stem, shipped_recipes
from kdcam.recipe.train_recipe import (
    DistillRecipe,
    TrainRecipe,
    check_command,
    command_of,
    load_recipe,
    read_recipe,
    recipe_schema,
)

DIGITS = {"data": {"name": "digits"}}


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid_and_described(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.description
    assert isinstance(recipe, DistillRecipe) == recipe.has_teacher


def test_resolved_recipe_reads_back_as_itself() -> None:
    for name in shipped_recipes():
        recipe = load_recipe(name)
        assert read_recipe(recipe.model_dump(mode="json"), source="again") == recipe


def test_defaults_are_an_ordinary_run() -> None:
    recipe = read_recipe(DIGITS, source="digits")
    assert type(recipe) is TrainRecipe
    assert [loss.name for loss in recipe.loss] == ["cross_entropy"]
    assert (recipe.optimizer.name, recipe.schedule.name, recipe.select) == ("sgd", "cosine", "best")


def test_all_problems_are_named_at_once_with_place_value_and_what_is_allowed() -> None:
    table = {
        "epochs": "ten",
        "bach_size": 64,
        "data": {"name": "digits", "rot": "x"},
        "optimizer": {"lr": -1},
        "loss": [{"name": "cross_entropy"}, {"name": "cam", "start": 1.5}, {"name": "kdd"}],
    }
    with pytest.raises(RecipeError) as caught:
        read_recipe(table, source="mine.toml")
    text = str(caught.value)
    assert text.startswith("recipe mine.toml has 6 problems:")
    for part in (
        "epochs: found 'ten'; must be a whole number",
        "recipe: unknown key 'bach_size'; did you mean 'batch_size'?; known keys: ",
        "data (digits): unknown key 'rot'",
        "optimizer (sgd).lr: found -1; must be greater than 0",
        "loss[1] (cam).start: found 1.5; must be less than 1",
        "loss[2]: found name 'kdd'; allowed: 'anchor', 'arcface', 'asoftmax', ",
        "did you mean 'kd'?",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({}, "data: this key is missing"),
        ({"data": {"image_size": 8}}, "data: the key name is missing"),
        ({"data": "digits"}, "data: "),
        ({**DIGITS, "loss": []}, r"no \[\[loss\]\] table"),
        ({**DIGITS, "loss": [{"name": "kd"}]}, r"loss\[0\] \(kd\): needs a teacher.*--teacher RUN"),
        (
            {**DIGITS, "teacher": {"checkpoint": "x"}},
            r"loss: no term reads the teacher; add one \(kd, caam_cam\)",
        ),
        ({"data": {"name": "digits", "validation": 0.0}}, r"data.validation: found 0 with select = \"best\""),
        ({**DIGITS, "task": "multi-label"}, r"cross_entropy\): takes labels, mixed as targets"),
        (
            {**DIGITS, "task": "multi-label"},
            r'task: found "multi-label", but the data \(digits\) gives one label',
        ),
        (
            {"data": {"name": "digit-scenes", "multi_label": True}},
            "task: found .single-label., but the data .digit-scenes. gives several labels",
        ),
        (
            {**DIGITS, "loss": [{"name": "cross_entropy"}, {"name": "channel_correlation"}]},
            r"loss\[1\] \(channel_correlation\): reads the channel attention.*model.channel_attention = true",
        ),
        (
            {**DIGITS, "loss": [{"name": "arcface"}]},
            r'loss\[0\] \(arcface\) needs head = "cosine", and the model has head = "linear"; set model.head',
        ),
        (
            {**DIGITS, "loss": [{"name": "asoftmax"}], "model": {"head": "cosine"}},
            r'loss\[0\] \(asoftmax\) needs head = "unit-weight", and the model has head = "cosine"',
        ),
        ({**DIGITS, "loss": [{"name": "lgm"}]}, r'loss\[0\] \(lgm\) needs head = "gaussian"'),
        (
            {**DIGITS, "loss": [{"name": "arcface"}, {"name": "lgm"}], "model": {"head": "cosine"}},
            r"loss: loss\[0\] \(arcface\) needs .* loss\[1\] \(lgm\) needs .*a model has one head; leave all but one",
        ),
        (
            {
                **DIGITS,
                "loss": [{"name": "normface"}, {"name": "mutual_channel"}],
                "model": {"head": "cosine"},
            },
            r'loss\[1\] \(mutual_channel\): reads the lengths of maps, which head = "cosine" divides out',
        ),
        (
            {"data": {"name": "digit-scenes"}, "task": "multi-label", "model": {"head": "gaussian"}},
            'model.head: found "gaussian" with task = "multi-label"',
        ),
        (
            {**DIGITS, "loss": [{"name": "ical"}]},
            "no term trains the classifier from the start of the run; add one of these.*lsoftmax",
        ),
        (
            {**DIGITS, "model": {"name": "torchvision:resnet18", "channel_attention": True}},
            "channel_attention and feature_channels go with kdcam: and timm networks.*'resnet18'",
        ),
        (
            {**DIGITS, "model": {"name": "kdcam:resnet8", "attention_reduction": 4}},
            "attention_reduction = 4, but there is no attention block",
        ),
        (
            {**DIGITS, "loss": [{"name": "include_exclude"}, {"name": "cross_entropy", "start": 0.5}]},
            "no term trains the classifier from the start of the run; add one of these.*cross_entropy",
        ),
        ({**DIGITS, "loss": [{"name": "cam"}]}, "no term has a weight at the start"),
        ({**DIGITS, "loss": [{"name": "cross_entropy", "warmup": 0.1}]}, "no term has a weight at the start"),
        ({**DIGITS, "optimizer": "sgd"}, "optimizer.*: found 'sgd'; must be a table"),
        (
            {**DIGITS, "optimizer": {"name": "adamw", "betas": [0.9, 1.0]}},
            r"betas\[1\]: found 1.0; must be less",
        ),
        ({**DIGITS, "select": "first"}, "select: found 'first'; allowed: 'best' or 'last'"),
        ({**DIGITS, "clip_norm": float("nan")}, "clip_norm: found nan; must be"),
        (
            {**DIGITS, "optimizer": {"name": "sgd", "nesterov": True, "momentum": 0}},
            "nesterov = true needs a momentum",
        ),
        (
            {**DIGITS, "schedule": {"name": "multistep", "milestones": [5, 3]}},
            r"milestones must rise, found \[5.0, 3.0\]",
        ),
        ({**DIGITS, "schedule": {"name": "cosin"}}, "did you mean 'cosine'"),
    ],
)
def test_each_problem_says_its_way_out(table: dict[str, object], match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        read_recipe(table, source="mine")


TAUGHT = {**DIGITS, "loss": [{"name": "cross_entropy"}, {"name": "kd"}]}
CACHED = {"checkpoint": "x", "cache": "views"}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"teacher": {"checkpoint": "x", "views": 8}},
            'teacher: views = 8, but cache = "none" keeps no view; set cache = "views", or leave views out',
        ),
        ({"teacher": {"checkpoint": "x", "views_seed": 1}}, "teacher: views_seed = 1, but"),
        ({"teacher": {"checkpoint": "x", "cache_folder": "y"}}, "teacher: cache_folder = y, but"),
        ({"teacher": {**CACHED, "views": 0}}, "teacher.views: found 0; must be at least 1"),
        (
            {"model": {"name": "kdcam:resnet8_s2", "feature_channels": 10**12}},
            "model.feature_channels: found 1000000000000; must be at most 1000000",
        ),
        ({"teacher": {**CACHED, "cache": "all"}}, "teacher.cache: found 'all'; allowed: 'none' or 'views'"),
        (
            {"teacher": CACHED, "data": {"name": "digits", "mixup": 0.2}},
            r"data.mixup: found 0.2 with teacher.cache",
        ),
        (
            {"teacher": CACHED, "data": {"name": "digits", "cutmix": 1}},
            r"data.cutmix: found 1 .*set data.cutmix = 0",
        ),
        (
            {"teacher": CACHED, "data": {"name": "digits", "augment": ["cutout"]}},
            'data.augment: found "cutout" with',
        ),
        ({"teacher": [CACHED, {"checkpoint": "y"}]}, "all teachers see the same view"),
        ({"teacher": [CACHED, {**CACHED, "views": 2}]}, "all teachers see the same view"),
        ({"teacher": [CACHED, {**CACHED, "views_seed": 2}]}, "all teachers see the same view"),
        (
            {"teacher": 2 * [{**CACHED, "cache_folder": "y"}]},
            "cache_folder: is the same for several teachers",
        ),
        (
            {"teacher": [{**CACHED, "cache_folder": place} for place in ("~/y", str(Path.home() / "y"))]},
            "cache_folder: is the same for several teachers",
        ),
    ],
)
def test_a_teacher_cache_that_cannot_be_is_refused(changes: dict[str, object], match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        read_recipe(TAUGHT | changes, source="mine")


def test_all_that_a_teacher_cache_cannot_hold_is_named_at_once() -> None:
    data = {"name": "digits", "mixup": 0.2, "cutmix": 1.0, "augment": ["cutout", "crop"]}
    with pytest.raises(RecipeError, match="has 3 problems"):
        read_recipe(TAUGHT | {"teacher": CACHED, "data": data}, source="mine")


def test_overrides_come_after_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'epochs = 3\n[data]\nname = "digits"\n[[loss]]\nname = "cross_entropy"\n[[loss]]\nname = "cam"\n'
    )
    recipe = load_recipe(
        path, ["epochs=7", "loss.cam.weight=1.5", "optimizer.name=adamw", "optimizer.lr=0.01"]
    )
    assert (recipe.epochs, recipe.loss[1].weight, recipe.optimizer.name) == (7, 1.5, "adamw")


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"'digit': neither a file nor a shipped recipe; did you mean 'digits'"
    ):
        load_recipe("digit")
    with pytest.raises(RecipeError, match=r"nowhere\.toml: cannot be read \(no such file"):
        load_recipe(tmp_path / "nowhere.toml")
    (tmp_path / "broken.toml").write_text("epochs = = 3")
    with pytest.raises(RecipeError, match=r"broken\.toml: not valid TOML: .*line 1, column 10"):
        load_recipe(tmp_path / "broken.toml")
    (tmp_path / "latin.toml").write_bytes(b"description = '\xe9'")
    with pytest.raises(RecipeError, match="not written in UTF-8"):
        load_recipe(tmp_path / "latin.toml")


def test_schema_describes_every_key() -> None:
    document = recipe_schema()
    assert set(document["properties"]) == {*DistillRecipe.model_fields, "method", "methods"}
    assert [one.get("type") for one in document["properties"]["teacher"]["anyOf"]] == [None, "array"]
    assert document["required"] == ["data"]


def test_stem_names_the_run() -> None:
    assert [recipe_stem(name) for name in ("a/photos.toml", "quickstart/teacher")] == ["photos", "teacher"]


KD = {"loss": [{"name": "cross_entropy"}, {"name": "kd"}], "teacher": {"checkpoint": "a"}}


def recipe_of(**tables: Any) -> TrainRecipe:
    return read_recipe({**DIGITS, **tables}, source="small")


def test_the_tables_tell_the_command() -> None:
    assert command_of(recipe_of()) == "train"
    assert command_of(recipe_of(init={"checkpoint": "a"})) == "finetune"
    assert command_of(recipe_of(**KD)) == "distill"
    assert command_of(recipe_of(**KD, init={"checkpoint": "a"})) == "distill"


@pytest.mark.parametrize(
    ("tables", "command", "message"),
    [
        ({"init": {"checkpoint": "a"}}, "train", r"has an \[init\] table; use `kdcam finetune`"),
        (KD, "train", r"has a \[teacher\] table; use `kdcam distill`"),
        (KD, "finetune", r"has a \[teacher\] table; use `kdcam distill`"),
        ({}, "finetune", r"no \[init\] table; name what to start from with --from CHECKPOINT"),
        ({}, "distill", r"no \[teacher\] table; .* or use `kdcam train`"),
        ({"init": {"checkpoint": "a"}}, "distill", r"no \[teacher\] table; .* or use `kdcam finetune`"),
    ],
)
def test_another_command_is_named(tables: dict[str, Any], command: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_command(recipe_of(**tables), command)
