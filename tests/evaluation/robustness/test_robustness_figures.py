"""Tests of kdcam.evaluation.robustness.robustness_figures."""

from pathlib import Path
from typing import Any

import pytest
from small_runs import Watcher, small_recipe

import kdcam
from kdcam.attacks.attack_settings import PgdConfig
from kdcam.errors import ModelError
from kdcam.evaluation.robustness import robustness_figures
from kdcam.evaluation.robustness.robustness_figures import draw_run, draw_together
from kdcam.evaluation.robustness.robustness_file import ROBUSTNESS_FILE, RunRobustness
from kdcam.runs.open_run import LoadedRun, load_run

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
