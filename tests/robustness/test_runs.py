import json
from pathlib import Path

import pytest
from small_runs import SCENES, small_recipe

import kdcam
from kdcam.errors import CheckpointError, RecipeError
from kdcam.noise_file import read_noise
from kdcam.robustness.multi_label import MultiLabelRobustnessReport
from kdcam.robustness.runs import ROBUSTNESS_FILE


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("robust")
    clean = small_recipe(epochs=1)
    noisy = small_recipe(epochs=1, data={**SCENES, "noise": {"kind": "symmetric", "rate": 0.4}})
    return [
        kdcam.train(recipe, output=folder / name, device="cpu").path
        for name, recipe in (("clean", clean), ("noisy", noisy))
    ]


def test_two_runs_in_order_with_a_file_in_each(runs: list[Path]) -> None:
    found = kdcam.evaluate_robustness(runs, settings={"n_examples": 12}, device="cpu")
    assert [result.run for result in found] == runs
    for result in found:
        assert [row.attack for row in result.report.rows] == ["fgsm", "pgd-10"]
        assert result.report.images == 12
        kept = json.loads((result.run / ROBUSTNESS_FILE).read_text())
        assert kept["clean_acc"] == result.report.clean_acc
        assert kept["weights"] == "selected"
        assert kept["rows"][1]["settings"]["eps"] == pytest.approx(8 / 255)


def test_memorisation_only_for_runs_with_noise(runs: list[Path]) -> None:
    clean, noisy = kdcam.evaluate_robustness(
        runs, settings={"attacks": ("fgsm",), "n_examples": 2}, device="cpu"
    )
    assert clean.memorisation is None
    assert noisy.memorisation is not None
    true, wrong = read_noise(runs[1])
    assert noisy.memorisation.wrong_labels == int((true != wrong).sum()) > 0
    assert noisy.memorisation.images == 45


def test_several_labels_an_image(tmp_path: Path) -> None:
    recipe = small_recipe(
        epochs=1,
        task="multi-label",
        data={**SCENES, "multi_label": True},
        loss=[{"name": "binary_cross_entropy"}],
    )
    run = kdcam.train(recipe, output=tmp_path / "labels", device="cpu").path
    (found,) = kdcam.evaluate_robustness([run], settings={"n_examples": 12}, batch_size=5, device="cpu")
    assert isinstance(found.report, MultiLabelRobustnessReport)
    assert found.memorisation is None
    assert found.report.images == 12
    kept = json.loads((run / ROBUSTNESS_FILE).read_text())
    assert kept["task"] == "multi-label"
    assert kept["worst_case_label_acc"] <= kept["clean"]["label_acc"]
    assert [row["attack"] for row in kept["rows"]] == ["fgsm", "pgd-10"]


def test_batch_size_changes_nothing(runs: list[Path]) -> None:
    one, other = (
        kdcam.evaluate_robustness(runs[:1], settings={"n_examples": 10}, batch_size=size, device="cpu")[
            0
        ].report
        for size in (3, 10)
    )
    assert one == other


def test_what_is_wrong_is_said_before_any_work(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"pgdd.*did you mean 'pgd'"):
        kdcam.evaluate_robustness(runs, settings={"attacks": ("pgdd",)})
    with pytest.raises(CheckpointError, match=r"recipe\.json"):
        kdcam.evaluate_robustness([tmp_path])
