"""Runs whose classifier is solved on the features of a frozen network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_runs import Watcher, small_recipe, started_model

import kdcam
from kdcam.data.batches.streaming import StreamImages
from kdcam.data.datasets import batches, load_data
from kdcam.errors import Interrupted, ModelError, RecipeError, TrainingError
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.table_checks import idle_settings, is_solved_probe
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe
from kdcam.runs.checkpoint import save_model
from kdcam.scores.embeddings import FeatureTable, feature_table
from kdcam.training.linear_probe import INVERSE_PENALTIES, best_candidate, fit_candidates
from kdcam.training.preflight import preflight

CPU = torch.device("cpu")
DIGITS = {"name": "digits", "image_size": 16}
PARTS = ("validation", "test")
DIGIT_NAMES = tuple("0123456789")


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
    for stop_after in (1, 6, 8):  # training features, validation features, fits
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
    assert is_solved_probe(recipe, started_model(recipe)) == solved


def test_a_probe_by_another_loss_is_trained_in_steps(trained: Path, tmp_path: Path) -> None:
    loss = [{"name": "cross_entropy", "label_smoothing": 0.1}]
    recipe = probe_recipe(trained, loss=loss, epochs=2, data={**DIGITS, "augment": ["crop"]})
    run = kdcam.finetune(recipe, output=tmp_path / "run", device="cpu")
    assert run.result["epochs"] == 2
    assert "probe" not in run.result
    before, after = (load_file(path / "model.safetensors") for path in (trained, run.path))
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"fc.weight", "fc.bias"}


def start_of(folder: Path, name: str, *, image_size: int = 32) -> Path:
    """Write a random network whose BatchNorms have statistics, as after training, and return its folder."""
    torch.manual_seed(0)
    classifier = build_classifier(
        ModelConfig(name=name), num_classes=10, in_channels=1, image_size=image_size, label_names=DIGIT_NAMES
    )
    for key, value in classifier.network.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_()
        if key.endswith("running_var"):
            value.uniform_(0.05, 5)
    save_model(folder, classifier)
    return folder


@pytest.mark.parametrize("name", ["shvit_s1", "repvit_m0_9"])
def test_a_classifier_of_several_layers_is_refused_before_the_data_is_read(tmp_path: Path, name: str) -> None:
    start, data = start_of(tmp_path / "start", name, image_size=64), {"name": "digits", "image_size": 64}
    recipe = probe_recipe(start, data=data)
    message = rf"the classifier of '{name}' is no single linear layer of the embedding"
    with pytest.raises(ModelError, match=message):
        preflight(recipe, device="cpu", fetches=False)
    with pytest.raises(ModelError, match=message):
        kdcam.finetune(recipe, output=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    smoothed = {"name": "cross_entropy", "label_smoothing": 0.1}
    preflight(probe_recipe(start, data=data, loss=[smoothed]), device="cpu")  # trained in steps


@pytest.mark.parametrize("name", ["resnet10t", "torchvision:shufflenet_v2_x0_5", "test_vit"])
def test_networks_of_other_sources_score_as_their_fit_does(tmp_path: Path, name: str) -> None:
    size = 160 if name == "test_vit" else 32
    start = start_of(tmp_path / "start", name, image_size=size)
    data = {"name": "digits", "image_size": size, "fraction": 0.1}
    result = kdcam.finetune(probe_recipe(start, data=data), output=tmp_path / "run", device="cpu").result
    of_fits = {one["inverse_penalty"]: one["validation"] for one in result["probe"]["candidates"]}
    chosen = of_fits[result["probe"]["inverse_penalty"]]
    assert result["selected"]["validation"]["acc1"] == pytest.approx(chosen["acc1"], abs=1e-6)
    assert result["selected"]["validation"]["nll"] == pytest.approx(chosen["nll"], rel=1e-3)


def test_a_network_that_reads_other_features_than_were_fitted_is_noticed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(*arguments: Any, **keys: Any) -> FeatureTable:
        table = feature_table(*arguments, **keys)
        return table._replace(embeddings=table.embeddings + 0.1)

    monkeypatch.setattr("kdcam.training.linear_probe.feature_table", shifted)
    with pytest.raises(
        TrainingError, match=r"'kdcam:resnet8_s2' with the solved classifier put in gives other"
    ):
        kdcam.finetune(probe_recipe(trained), output=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "result.json").exists()


def test_classes_of_a_split_are_solved_alone(trained: Path, tmp_path: Path) -> None:
    data = {**DIGITS, "class_split": {"novel": 4}}
    run = kdcam.finetune(probe_recipe(trained, data=data), output=tmp_path / "run", device="cpu")
    assert len(run.result["label_names"]) == 6
    assert load_file(run.path / "model.safetensors")["fc.weight"].shape[0] == 6
    assert run.result["selected"]["test"]["acc1"] > 0.5


def test_streamed_pictures_are_solved_like_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for label in ("dark", "light"):
        (root / label).mkdir(parents=True)
        for index in range(12):
            grey = generator.integers(0, 120, (16, 16, 1)) + (120 if label == "light" else 0)
            Image.fromarray(np.repeat(grey, 3, 2).astype(np.uint8)).save(root / label / f"{index}.png")
    torch.manual_seed(0)
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8_s2"), num_classes=2, in_channels=3, image_size=16
    )
    save_model(tmp_path / "start", classifier)
    data = {"name": "image-folder", "root": str(root), "image_size": 16, "validation": 0.25, "test": 0.25}
    recipe, results = probe_recipe(tmp_path / "start", data=data), []
    for name, limit in (("held", 64), ("streamed", 8)):
        monkeypatch.setattr("kdcam.data.sources.picture_files.RESIDENT_LIMIT", limit)
        assert isinstance(load_data(recipe.data).train.images, StreamImages) == (name == "streamed")
        results.append(kdcam.finetune(recipe, output=tmp_path / name, device="cpu").result)
    assert results[0]["probe"] == results[1]["probe"]
    assert results[0]["selected"]["test"]["acc1"] == 1


@pytest.mark.parametrize(("key", "value"), [("accumulate", 2), ("clip_norm", 1.0), ("ema_decay", 0.9)])
def test_what_changes_steps_is_refused_where_there_are_none(
    trained: Path, tmp_path: Path, key: str, value: float
) -> None:
    with pytest.raises(
        RecipeError, match=rf'{key}: found {value:g} with init\.frozen = "all" .* leave {key} out'
    ):
        preflight(probe_recipe(trained, **{key: value}), device="cpu")
    preflight(probe_recipe(trained, init={"checkpoint": str(trained)}, **{key: value}), device="cpu")


def test_what_does_nothing_is_told(trained: Path) -> None:
    plain = probe_recipe(trained)
    assert idle_settings(plain, started_model(plain)) == ("epochs", "batch_size", "optimizer", "schedule")
    more = probe_recipe(
        trained, precision="fp32", model={"drop_rate": 0.2}, loss=[{"name": "cross_entropy", "weight": 2.0}]
    )
    found = idle_settings(more, started_model(more))
    assert found[4:] == ("loss.weight", "precision", "model.drop_rate")


def test_the_last_weights_of_a_probe_are_its_only_ones(probed: Path) -> None:
    selected, last = kdcam.load(probed), kdcam.load(probed, weights="last")
    assert torch.equal(selected.network.fc.weight, last.network.fc.weight)
    again = kdcam.evaluate(probed, weights="last", device="cpu").headline()
    assert again == pytest.approx(kdcam.evaluate(probed, device="cpu").headline())


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
    monkeypatch.setattr("kdcam.training.linear_probe._STEPS", easy.fit.steps)
    found = fit_candidates(train, None, 3, inverse_penalties=[1e-4, 100.0], progress=watcher)
    assert [one.fit.inverse_penalty for one in found] == [1e-4]
    assert "the minimum was not reached" in watcher.messages[0]
    monkeypatch.setattr("kdcam.training.linear_probe._STEPS", 1)
    with pytest.raises(TrainingError, match=r"the minimum was not reached in 2 steps"):
        fit_candidates(train, None, 3, inverse_penalties=[100.0])
