"""A recipe of its own network that goes on from another one."""

from pathlib import Path

import pytest
from small_runs import small_recipe, started_model

import kdcam
from kdcam.errors import RecipeError
from kdcam.training.starting_point import load_to_finetune

RECIPE = """
epochs = 1
[data]
name = "digits"
[model]
name = "resnet18"
pretrained = false
drop_rate = 0.1
mean = [0.4]
std = [0.2]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a recipe with a network of its own."""
    (tmp_path / "own.toml").write_text(RECIPE)
    return tmp_path / "own.toml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of kdcam:resnet8_s2."""
    output = tmp_path_factory.mktemp("trained") / "run"
    return kdcam.train(small_recipe(epochs=1), output=output, device="cpu").path


def test_the_checkpoint_tells_the_network(file: Path, trained: Path) -> None:
    recipe, note = load_to_finetune(file, [f'init.checkpoint="{trained}"'])
    assert recipe.model.model_fields_set == {"drop_rate"}
    assert started_model(recipe).name == "kdcam:resnet8_s2"
    assert started_model(recipe).drop_rate == 0.1
    assert note == (
        'model: left out the recipe\'s name = "resnet18", mean = [0.4], std = [0.2], as the run starts from '
        f"{trained}, which is of 'kdcam:resnet8_s2'; to keep mean and std, give them by --set"
    )


def test_nothing_is_said_where_both_are_one_network(file: Path) -> None:
    recipe, note = load_to_finetune(file, ["init.checkpoint=resnet18"])
    assert note is None
    model = started_model(recipe)
    assert (model.name, model.pretrained, model.mean) == ("resnet18", True, (0.4,))


def test_published_weights_give_way_to_the_checkpoint(file: Path) -> None:
    file.write_text(RECIPE.replace("pretrained = false", "pretrained = true"))
    recipe, note = load_to_finetune(file, ["init.checkpoint=resnet18"])
    assert started_model(recipe).pretrained
    assert note == "model: left out the recipe's pretrained = true, as the run starts from resnet18"


@pytest.mark.parametrize("written", [["model.name=resnet18"], ['model.name="resnet18"', "seed=1"]])
def test_a_name_that_is_set_stays_an_error(file: Path, trained: Path, written: list[str]) -> None:
    recipe, _ = load_to_finetune(file, [*written, f"init.checkpoint={trained}"])
    with pytest.raises(RecipeError, match=r"model\.name: found 'resnet18', but init\.checkpoint .* leave"):
        started_model(recipe)


def test_a_name_beside_the_files_own_start_stays_an_error(file: Path, trained: Path) -> None:
    file.write_text(f'{RECIPE}[init]\ncheckpoint = "{trained}"\n')
    recipe, note = load_to_finetune(file, [f"init.checkpoint={trained}"])
    assert note is None
    with pytest.raises(RecipeError, match=r"model\.name: found 'resnet18', but init\.checkpoint"):
        started_model(recipe)


def test_a_file_that_names_no_network_keeps_the_recipes(file: Path, tmp_path: Path, trained: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes((trained / "model.safetensors").read_bytes())
    recipe, note = load_to_finetune(file, [f"init.checkpoint={bare}", "model.name=kdcam:resnet8_s2"])
    assert note is None
    assert started_model(recipe).name == "kdcam:resnet8_s2"


def test_a_finished_run_is_of_the_same_recipe_when_its_start_is_gone(file: Path, trained: Path) -> None:
    file.write_text(RECIPE.replace("mean = [0.4]\nstd = [0.2]\n", ""))
    here = load_to_finetune(file, [f"init.checkpoint={trained}"])[0]
    away = trained.rename(trained.with_name("away"))
    try:
        assert load_to_finetune(file, [f"init.checkpoint={trained}"]) == (here, None)
    finally:
        away.rename(trained)


def test_without_a_start_nothing_changes(file: Path) -> None:
    assert load_to_finetune(file, ["seed=3"]) == (kdcam.load_recipe(file, ["seed=3"]), None)
