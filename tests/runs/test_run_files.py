from pathlib import Path

import pytest

from kdcam.errors import CheckpointError
from kdcam.files.json_files import write_json
from kdcam.runs.resume_rules import prepare_folder

LATER = (
    "few-shot.json",
    "verification.json",
    "localization.json",
    "robustness.json",
    "report.html",
    "figures/roc.png",
    "robustness-progress-abc.json",
)


def left_by_evaluations(folder: Path) -> list[Path]:
    (folder / "figures").mkdir(parents=True)
    files = [folder / name for name in LATER]
    for file in files:
        file.write_text("{}")
    return files


def test_a_run_that_starts_over_has_nothing_of_the_one_before(tmp_path: Path) -> None:
    files = left_by_evaluations(tmp_path)
    mine = [tmp_path / "notes.txt", tmp_path / "figures" / "sketch.svg"]
    for file in mine:
        file.touch()
    write_json(tmp_path / "recipe.json", {"recipe": {"epochs": 1}})
    assert prepare_folder(tmp_path, {"epochs": 1}, "never") == "new"
    assert not any(file.exists() for file in files)
    assert all(file.exists() for file in mine)


def test_a_run_that_goes_on_keeps_what_is_known_of_it(tmp_path: Path) -> None:
    files = left_by_evaluations(tmp_path)
    write_json(tmp_path / "recipe.json", {"recipe": {"epochs": 1}})
    assert prepare_folder(tmp_path, {"epochs": 1}, "auto") == "unfinished"
    assert all(file.exists() for file in files)


@pytest.mark.parametrize("name", LATER)
def test_results_without_a_recipe_are_not_taken_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=rf"holds {name} but no recipe.json"):
        prepare_folder(tmp_path, {"epochs": 1}, "auto")
