"""Runs whose classifier is solved on the features of a frozen network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_runs import Watcher, small_recipe
from torch import nn

import kdcam
from kdcam.data.datasets import batches, load_data
from kdcam.embeddings import FeatureTable, feature_table
from kdcam.errors import Interrupted, ModelError, RecipeError, TrainingError
from kdcam.probe_recipe import is_solved
from kdcam.probing import INVERSE_PENALTIES, best_candidate, fit_candidates, linear_layer
from kdcam.recipe import TrainRecipe, read_recipe
from kdcam.starting_point import started_model

CPU = torch.device("cpu")
DIGITS = {"name": "digits", "image_size": 16}
PARTS = ("validation", "test")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "trained"
    return kdcam.train(small_recipe(epochs=1), output=folder, device="cpu").path


def probe_recipe(trained: Path, **changes: Any) -> TrainRecipe:
    table = {"data": DIGITS, "init": {"checkpoint": str(trained), "frozen": "all"}}
    return read_recipe(table | changes, source="probe")


@pytest.fixture(scope="module")
def probed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "probe"
    return kdcam.finetune(probe_recipe(trained), output=folder, device="cpu").path


def tables(run: Path) -> tuple[FeatureTable, FeatureTable, FeatureTable]:
    recipe, classifier = probe_recipe(run), kdcam.load(run)
    parts = load_data(recipe.data)
    return tuple(
        feature_table(
            classifier,
            batches(part, batch_size=256, training=False, config=recipe.data, seed=0, device=CPU),
        )
        for part in (parts.train, parts.validation, parts.test)
    )


def test_only_the_classifier_differs_from_the_start(trained: Path, probed: Path) -> None:
    before, after = load_file(trained / "model.safetensors"), load_file(probed / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fc.weight", "fc.bias"}  # BatchNorm's statistics stay, too


def test_the_folder_is_a_run_like_any_other(trained: Path, probed: Path) -> None:
    result = json.loads((probed / "result.json").read_text())
    (line,) = [json.loads(text) for text in (probed / "metrics.jsonl").read_text().splitlines()]
    assert (line["epoch"], line["selected"]) == (1, True)
    assert result["images"] == {"train": 1170, "validation": 130, "test": 497}
    assert result["selected"] == result["last"]
    assert line["val"] == pytest.approx(result["selected"]["validation"], rel=1e-4)
    for part in PARTS:
        again = kdcam.evaluate(probed, part=part, device="cpu").headline()
        assert again == pytest.approx(result["selected"][part], rel=1e-6)
    assert kdcam.load(probed).label_names == tuple("0123456789")
    assert kdcam.finetune(probe_recipe(trained), output=probed, device="cpu").was_finished


def test_the_accuracy_is_scikit_learns_on_the_same_features(probed: Path) -> None:
    train, validation, test = tables(probed)
    result = json.loads((probed / "result.json").read_text())
    inverse_penalty = result["probe"]["inverse_penalty"]
    solver = LogisticRegression(C=inverse_penalty, max_iter=10_000, tol=1e-8)
    model = make_pipeline(StandardScaler(), solver).fit(train.embeddings.double(), train.targets)
    for name, part in (("validation", validation), ("test", test)):
        expected = model.score(part.embeddings.double(), part.targets)
        assert expected > 0.5
        assert result["selected"][name]["acc1"] == pytest.approx(expected, abs=0.01)


def test_the_penalty_is_chosen_on_the_validation_part(probed: Path) -> None:
    result = json.loads((probed / "result.json").read_text())
    tried = result["probe"]["candidates"]
    assert [one["inverse_penalty"] for one in tried] == list(INVERSE_PENALTIES)
    best = max(tried, key=lambda one: (one["validation"]["acc1"], -one["validation"]["nll"]))
    assert result["probe"]["inverse_penalty"] == best["inverse_penalty"]
    assert f"inverse penalty C = {best['inverse_penalty']:g} of 0.0001, 0.001," in result["selection"]
    assert "the highest top-1 accuracy on the validation part" in result["selection"]


@pytest.mark.parametrize(
    "changes", [{"select": "last"}, {"select": "last", "data": {**DIGITS, "validation": 0}}]
)
def test_nothing_is_selected_where_the_recipe_wants_none(
    trained: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    result = kdcam.finetune(probe_recipe(trained, **changes), output=tmp_path / "run", device="cpu").result
    assert result["probe"]["inverse_penalty"] == 1
    assert "inverse penalty C = 1; nothing was selected on" in result["selection"]


def test_a_fraction_and_wrong_labels_are_what_is_fitted(trained: Path, tmp_path: Path) -> None:
    data = {**DIGITS, "fraction": 0.2, "noise": {"rate": 0.4}}
    run = kdcam.finetune(probe_recipe(trained, data=data), output=tmp_path / "run", device="cpu")
    assert run.result["images"] == {"train": 234, "validation": 130, "test": 497}
    assert run.result["label_noise"]["realised_rate"] > 0.3
    assert (run.path / "noise.safetensors").exists()


def test_a_stopped_probe_starts_anew_and_ends_alike(trained: Path, probed: Path, tmp_path: Path) -> None:
    output, recipe = tmp_path / "run", probe_recipe(trained)
    for stop_after in (1, 2, 4):
        with pytest.raises(
            Interrupted, match=r"run: the linear probe was stopped, .*; the same command starts it anew"
        ):
            kdcam.finetune(recipe, output=output, device="cpu", progress=Watcher(stop_after))
        assert not (output / "result.json").exists()
    watcher = Watcher()
    kdcam.finetune(recipe, output=output, device="cpu", progress=watcher)
    for name in ("model.safetensors", "config.json", "result.json"):
        assert (output / name).read_bytes() == (probed / name).read_bytes()
    assert len((output / "metrics.jsonl").read_text().splitlines()) == len(watcher.epochs) == 1
    assert any("the classifier is solved on features computed once" in text for text in watcher.messages)
    assert ("features of the training part", 5, 5) in watcher.done


@pytest.mark.parametrize("key", ["augment", "mixup", "cutmix"])
def test_what_changes_images_is_refused_before_a_folder_is_made(
    trained: Path, tmp_path: Path, key: str
) -> None:
    value = ["crop"] if key == "augment" else 0.5
    recipe = probe_recipe(trained, data={**DIGITS, key: value})
    with pytest.raises(
        RecipeError, match=rf'data\.{key}: found .* with init\.frozen = "all" .* leave {key} out'
    ):
        kdcam.finetune(recipe, output=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "solved"),
    [
        ({}, True),
        ({"loss": [{"name": "cross_entropy", "weight": 2.0}]}, True),
        ({"loss": [{"name": "cross_entropy", "label_smoothing": 0.1}]}, False),
        ({"loss": [{"name": "cross_entropy", "class_balance_beta": 0.9}]}, False),
        ({"loss": [{"name": "cross_entropy"}, {"name": "center"}]}, False),
        ({"loss": [{"name": "arcface"}], "model": {"head": "cosine"}}, False),
        ({"model": {"head": "cosine"}}, False),
        ({"adversary": {"eps": 0.1}}, False),
        ({"init": {"frozen": "all", "unfreeze": 0.5}}, False),
        ({"init": {"frozen": 1}}, False),
        ({"init": {}}, False),
    ],
)
def test_which_recipes_are_solved(trained: Path, changes: dict[str, Any], solved: bool) -> None:
    if "init" in changes:
        changes = {**changes, "init": {"checkpoint": str(trained), **changes["init"]}}
    recipe = probe_recipe(trained, **changes)
    assert is_solved(recipe, started_model(recipe)) == solved


def test_a_probe_by_another_loss_is_trained_in_steps(trained: Path, tmp_path: Path) -> None:
    loss = [{"name": "cross_entropy", "label_smoothing": 0.1}]
    recipe = probe_recipe(trained, loss=loss, epochs=2, data={**DIGITS, "augment": ["crop"]})
    run = kdcam.finetune(recipe, output=tmp_path / "run", device="cpu")
    assert run.result["epochs"] == 2
    assert "probe" not in run.result
    before, after = (load_file(path / "model.safetensors") for path in (trained, run.path))
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("layer", [nn.Linear(4, 10, bias=False), nn.Sequential(nn.Linear(4, 10))])
def test_a_classifier_that_cannot_be_solved_is_refused(trained: Path, layer: nn.Module) -> None:
    classifier = kdcam.load(trained)
    classifier.network.fc = layer
    with pytest.raises(ModelError, match=r"'kdcam:resnet8_s2' is no single linear layer with a bias"):
        linear_layer(classifier)


def made_up(images: int, seed: int) -> FeatureTable:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % 3
    return FeatureTable(torch.randn(images, 6, generator=generator) + labels[:, None], labels)


def test_equal_candidates_go_to_the_smaller_penalty_and_then_the_likelihood() -> None:
    one, two, three = fit_candidates(made_up(90, 0), made_up(60, 1), 3, inverse_penalties=[0.001, 0.1, 1.0])
    assert best_candidate([two, two]) is two
    easier = two._replace(validation=one.validation)
    assert best_candidate([one, easier]) is one
    likelier = one.validation.__class__(**{**one.validation.to_json(), "nll": one.validation.nll / 2})
    assert best_candidate([one, three._replace(validation=likelier)]).validation is likelier


def test_penalties_that_are_not_solved_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    train, watcher = made_up(90, 0), Watcher()
    (easy,) = fit_candidates(train, None, 3, inverse_penalties=[1e-4])
    monkeypatch.setattr("kdcam.linear_probe._STEPS", easy.fit.steps)
    found = fit_candidates(train, None, 3, inverse_penalties=[1e-4, 100.0], progress=watcher)
    assert [one.fit.inverse_penalty for one in found] == [1e-4]
    assert "the minimum was not reached" in watcher.messages[0]
    monkeypatch.setattr("kdcam.linear_probe._STEPS", 1)
    with pytest.raises(TrainingError, match=r"the minimum was not reached in 2 steps"):
        fit_candidates(train, None, 3, inverse_penalties=[100.0])
