from typing import Any

import pytest

from kdcam.errors import RecipeError
from kdcam.models.model_config import InitConfig
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe


def recipe(init: dict[str, Any], **changes: Any) -> TrainRecipe:
    return read_recipe({"data": {"name": "digits"}, "init": init, **changes}, source="small")


@pytest.mark.parametrize(
    ("init", "message"),
    [
        (
            {"frozen": 2},
            r"init\.checkpoint: this key is missing; `kdcam finetune RECIPE --from CHECKPOINT` sets it",
        ),
        (
            {"checkpoint": "a", "frozen": "some"},
            r'init\.frozen: found \'some\'; must be "none", "all" or a number of stages',
        ),
        ({"checkpoint": "a", "frozen": 0}, r"init\.frozen: found 0;.*at least 1"),
        ({"checkpoint": "a", "frozen": True}, r"init\.frozen: found True;"),
        ({"checkpoint": "a", "frozen": 1.5}, r"init\.frozen: found 1\.5;"),
        ({"checkpoint": "a", "frozen": 1, "unfreeze": 0}, r"init\.unfreeze: found 0; must be greater than 0"),
        ({"checkpoint": "a", "frozen": 1, "unfreeze": 1.5}, r"init\.unfreeze: found 1\.5; must be at most 1"),
        ({"checkpoint": "a", "layer_decay": 1.1}, r"init\.layer_decay: found 1\.1; must be at most 1"),
        ({"checkpoint": "a", "unfreeze": 0.5}, r"unfreeze = 0\.5, but nothing is frozen; set frozen"),
        (
            {"checkpoint": "a", "frozen": "all", "layer_decay": 0.5},
            r"layer_decay = 0\.5 with frozen = \"all\".*set unfreeze below 1",
        ),
        ({"checkpoint": "a", "frosen": 1}, r"init: unknown key 'frosen'; did you mean 'frozen'"),
    ],
)
def test_what_means_nothing_is_refused(init: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(init)


def test_only_a_classifier_that_learns_alone_throughout_is_a_probe() -> None:
    assert InitConfig(checkpoint="a", frozen="all").is_probe
    assert not InitConfig(checkpoint="a", frozen="all", unfreeze=0.5).is_probe
    assert not InitConfig(checkpoint="a", frozen=3).is_probe
    assert not InitConfig(checkpoint="a").is_probe


@pytest.mark.parametrize("key", [{"pretrained": True}, {"weights": "file"}])
def test_a_second_starting_point_is_refused(key: dict[str, Any]) -> None:
    name = next(iter(key))
    with pytest.raises(RecipeError, match=rf"model\.{name}: found .* beside an \[init\] table"):
        recipe({"checkpoint": "a"}, model={"name": "resnet10t", **key})


def test_a_recipe_keeps_what_is_written_of_its_model_alone() -> None:
    written = recipe({"checkpoint": "a", "frozen": 2}, model={"head": "cosine"})
    table = written.model_dump(mode="json")
    assert table["model"] == {"head": "cosine"}
    again = read_recipe(table, source="again")
    assert again == written
    assert again.model.model_fields_set == {"head"}
    plain = read_recipe({"data": {"name": "digits"}}, source="plain").model_dump(mode="json")
    assert plain["model"]["name"] == "kdcam:resnet20"
    assert plain.get("init") is None


def test_the_head_that_a_loss_needs_may_come_from_the_checkpoint() -> None:
    loss = [{"name": "arcface"}]
    assert recipe({"checkpoint": "a"}, loss=loss).model.head == "linear"
    with pytest.raises(RecipeError, match=r'needs head = "cosine"'):
        read_recipe({"data": {"name": "digits"}, "loss": loss}, source="plain")


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ({}, "starts from runs/a"),
        ({"frozen": "all"}, "starts from runs/a, all but the classifier frozen"),
        (
            {"frozen": 2, "unfreeze": 0.3, "layer_decay": 0.75},
            "starts from runs/a, stem and 2 of its stages frozen for 0.3 of the run, layer decay 0.75",
        ),
    ],
)
def test_a_start_in_words(init: dict[str, Any], words: str) -> None:
    assert InitConfig(checkpoint="runs/a", **init).in_words() == words
