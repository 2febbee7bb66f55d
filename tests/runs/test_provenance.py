import json
from pathlib import Path
from typing import Any

import pytest

from kdcam.runs.provenance import Ancestor, provenance_of


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def network(folder: Path, *label_names: str, **recipe: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"label_names": label_names} if label_names else {}))
    (folder / "model.safetensors").touch()
    if recipe:
        (folder / "recipe.json").write_text(json.dumps({"recipe": recipe}))
    return folder


def test_what_runs_were_started_from_is_followed(home: Path) -> None:
    network(home / "first", "a", "b", model={"name": "kdcam:resnet8_s2"})
    network(home / "second", "c", "d", init={"checkpoint": "first"})
    run = network(home / "third", "e", "f", init={"checkpoint": str(home / "second/model.safetensors")})
    found = provenance_of(run)
    assert found.itself == Ancestor(str(run), ("e", "f"))
    assert [one.label_names for one in found.others] == [("c", "d"), ("a", "b")]
    seen = found.that_saw(["x", "b", "a"])
    assert seen == Ancestor("first", ("b", "a"))
    assert found.sentence(seen) == f"{run} learned from first, which was trained on 'b', 'a'"
    own = found.that_saw(["a", "f"])
    assert own is not None
    assert found.sentence(own) == f"{run} was trained on 'f'"
    assert found.that_saw(["x"]) is None
    assert found.doubt() is None


@pytest.mark.parametrize("teacher", [{"checkpoint": "big"}, [{"checkpoint": "big"}]])
def test_starting_weights_and_teachers_count(home: Path, teacher: Any) -> None:
    network(home / "big", "a")
    network(home / "start", "b")
    run = network(home / "run", "c", teacher=teacher, model={"name": "x", "weights": "start"})
    assert [one.place for one in provenance_of(run).others] == ["big", "start"]


@pytest.mark.parametrize(
    ("recipe", "unknown"),
    [
        ({"init": {"checkpoint": "tf_efficientnet_lite0"}}, "tf_efficientnet_lite0"),
        ({"init": {"checkpoint": "gone/run"}}, "gone/run"),
        ({"init": {"checkpoint": "file.pth"}}, "file.pth"),
        ({"init": {"checkpoint": "package:some-weights"}}, "package:some-weights"),
        ({"model": {"name": "resnet18", "pretrained": True}}, "resnet18"),
        ({"teacher": {"checkpoint": "unnamed"}}, "unnamed"),
    ],
)
def test_networks_whose_classes_are_not_known_are_told(home: Path, recipe: Any, unknown: str) -> None:
    (home / "file.pth").touch()
    network(home / "unnamed")
    run = network(home / "run", "a", **recipe)
    found = provenance_of(run)
    assert found.unknown == (unknown,)
    assert found.doubt() == (
        f"{run} learned from {unknown}: whose classes are not known, so it may have seen those that it is asked about"
    )


def test_a_network_without_names_is_in_doubt_itself(home: Path) -> None:
    network(home / "bare")
    assert provenance_of("bare").doubt() == (
        "bare: its classes are not known, so it may have seen those that it is asked about"
    )


def test_a_circle_ends(home: Path) -> None:
    network(home / "a", "1", init={"checkpoint": "b"})
    network(home / "b", "2", init={"checkpoint": str(home / "a")})
    assert [one.place for one in provenance_of("a").others] == ["b"]


def test_damaged_files_tell_nothing(home: Path) -> None:
    run = network(home / "run", "a")
    (run / "recipe.json").write_text("{")
    assert provenance_of(run).others == ()
    (run / "config.json").write_text('{"label_names": 3}')
    assert provenance_of(run).unknown == (str(run),)
