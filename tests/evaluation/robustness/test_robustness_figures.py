"""Tests of kdcam.evaluation.robustness.robustness_figures."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import Watcher, small_recipe

import kdcam
from kdcam.attacks.attack_settings import PgdConfig
from kdcam.errors import ModelError
from kdcam.evaluation.robustness import robustness_figures
from kdcam.evaluation.robustness.memorisation import LabelNoiseReport
from kdcam.evaluation.robustness.robustness_figures import draw_run, draw_together, rate_curves
from kdcam.evaluation.robustness.robustness_file import RunRobustness
from kdcam.recipe.train_recipe import read_recipe
from kdcam.runs.open_run import LoadedRun, load_run
from kdcam.runs.run_files import RECIPE_FILE, ROBUSTNESS_FILE

ASKED: dict[str, Any] = {"attacks": ["square-5"], "n_examples": 6, "checks": False, "calibration": True}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    recipe = small_recipe(epochs=1, batch_size=32, data={"name": "digits", "image_size": 16})
    run = kdcam.train(recipe, output=tmp_path_factory.mktemp("figures") / "run", device="cpu")
    return load_run(run.path, device="cpu")


def evaluated(loaded: LoadedRun, **changes: Any) -> RunRobustness:
    (found,) = kdcam.evaluate_robustness([loaded.path], settings={**ASKED, **changes}, device="cpu")
    return found


def test_one_budget_and_zero_make_a_curve_and_the_user_is_told(loaded: LoadedRun, tmp_path: Path) -> None:
    found = evaluated(loaded, eps="0,8/255")
    watcher = Watcher()
    assert draw_together([found], tmp_path, progress=watcher) == [tmp_path / "robustness-eps.png"]
    assert watcher.messages == [f"{tmp_path}: robustness-eps.png"]
    nothing = Watcher()
    assert draw_together([evaluated(loaded, eps="8/255")], tmp_path / "none", progress=nothing) == []
    assert nothing.messages == [f"{tmp_path / 'none'}: there was nothing to draw"]


def test_adversarial_images_are_drawn_by_a_few_steps_of_pgd_and_once(
    loaded: LoadedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluated(loaded)
    drawn: list[tuple[Any, int]] = []
    real = robustness_figures.adversarial_examples

    def watched(classifier: Any, batch: Any, attack: Any, **arguments: Any) -> Any:
        drawn.append((attack, len(batch.images)))
        return real(classifier, batch, attack, **arguments)

    monkeypatch.setattr(robustness_figures, "adversarial_examples", watched)
    first = draw_run(loaded, found, batch_size=4)
    assert first == draw_run(loaded, found, batch_size=4)
    ((attack, images),) = drawn
    assert isinstance(attack, PgdConfig)
    assert (attack.steps, attack.eps, attack.norm) == (20, pytest.approx(8 / 255), "linf")
    assert images <= 4
    (loaded.path / ROBUSTNESS_FILE).touch()  # found anew
    draw_run(loaded, found)
    assert len(drawn) == 2


def test_a_picture_that_fails_is_a_warning_and_old_ones_go(
    loaded: LoadedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = evaluated(loaded)
    folder = loaded.path / "figures"
    draw_run(loaded, found)
    (folder / "corruptions.png").write_bytes(b"of an earlier evaluation")
    (folder / "mine.png").write_bytes(b"")
    (loaded.path / ROBUSTNESS_FILE).touch()

    def failing(*_: Any, **__: Any) -> Any:
        raise ModelError("no map")

    monkeypatch.setattr(robustness_figures, "adversarial_examples", failing)
    watcher = Watcher()
    assert draw_run(loaded, found, progress=watcher) == [folder / "reliability.png"]
    assert watcher.warnings == [f"{folder / 'adversarial.png'}: not drawn: no map"]
    assert watcher.messages == [f"{folder}: reliability.png"]
    assert {path.name for path in folder.iterdir()} == {"mine.png", "reliability.png"}


SELECTED = "clean test, selected epoch"


def evaluated_run(
    folder: Path, accuracy: float, noise: dict[str, Any] | None, **tables: Any
) -> RunRobustness:
    """Return an evaluation of a run that was never trained: its recipe and its numbers."""
    data = {"name": "digits", **({"noise": noise} if noise else {})}
    recipe = read_recipe({"data": data, **tables}, source="mine")
    folder.mkdir()
    (folder / RECIPE_FILE).write_text(json.dumps({"recipe": recipe.model_dump(mode="json")}))
    rate = noise["rate"] if noise else 0.0
    report = LabelNoiseReport(
        kind=noise["kind"] if noise else None,
        nominal_rate=rate,
        realised_rate=rate + 0.01 if noise else 0.0,
        selection="last epoch",
        selected_epoch=1,
        last_epoch=1,
        selected_test_acc=accuracy,
        last_test_acc=None,
        validation=(),
        memorisation=None,
    )
    sections = dict.fromkeys(
        ("attacks", "corruptions", "corrupted_set", "calibration", "out_of_distribution")
    )
    return RunRobustness(
        run=folder,
        network="",
        keys={},
        weights="selected",
        settings={},
        checks=(),
        label_noise=report,
        **sections,
    )


def symmetric(rate: float, seed: int = 0) -> dict[str, Any]:
    return {"kind": "symmetric", "rate": rate, "seed": seed}


@pytest.fixture
def found(tmp_path: Path) -> list[RunRobustness]:
    madry = {"adversary": {}}
    return [
        evaluated_run(tmp_path / "a", 0.9, None),
        evaluated_run(tmp_path / "b", 0.8, symmetric(0.2)),
        evaluated_run(tmp_path / "c", 0.6, symmetric(0.2, seed=1), seed=1, description="again"),
        evaluated_run(tmp_path / "d", 0.5, symmetric(0.4)),
        evaluated_run(tmp_path / "e", 0.3, {"kind": "pairflip", "rate": 0.4}),
        evaluated_run(tmp_path / "f", 0.1, symmetric(0.2), **madry),
        evaluated_run(tmp_path / "g", 0.2, symmetric(0.4), **madry),
        evaluated_run(tmp_path / "h", 0.7, symmetric(0.2), model={"name": "kdcam:resnet8_s2"}),
    ]


def test_runs_that_differ_in_seed_and_rate_alone_are_averaged(found: list[RunRobustness]) -> None:
    curves = {curve.name: curve.points for curve in rate_curves(found)}
    symmetric, pairflip, madry = (
        f"cross_entropy, {kind} noise (as {name}): {SELECTED}"
        for kind, name in (("symmetric", "b"), ("pairflip", "e"), ("symmetric", "f"))
    )
    # The other network has a single rate, and the plain run without noise is no point of Madry's.
    assert list(curves) == [symmetric, pairflip, madry]
    assert curves[symmetric] == [(0.0, 0.9), (20.0, pytest.approx(0.7)), (40.0, 0.5)]
    assert curves[pairflip] == [(0.0, 0.9), (40.0, 0.3)]
    assert curves[madry] == [(20.0, 0.1), (40.0, 0.2)]
