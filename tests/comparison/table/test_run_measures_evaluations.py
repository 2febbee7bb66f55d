import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from kdcam.comparison.table.run_measures import (
    EpisodeAccuracies,
    StoredEvaluation,
    evaluation_title,
    headline_of,
    read_evaluations,
)
from kdcam.files.digests import weights_digest
from kdcam.models.weights.safetensors_files import tensor_bytes


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with weights, and few-shot.json and localization.json of them."""
    network = nn.Linear(2, 3)
    (tmp_path / "model.safetensors").write_bytes(tensor_bytes(network.state_dict(), {}))
    model = weights_digest(network)
    few_shot = {
        "headline": {"5-way 1-shot prototype": {"mean": 0.5, "interval": 0.1}},
        "settings": {
            "ways": 5,
            "shots": [1],
            "heads": ["prototype"],
            "fine_tune_last_stage": False,
            "seed": 0,
        },
        "model": model,
        "novel": {
            "source": "here",
            "classes": ["a", "b"],
            "images": 9,
            "targets": "abc",
            "content": "pixels",
        },
        "scores": [
            {"head": "prototype", "ways": 5, "shots": 1, "queries": 2, "episodes": "xyz", "right": [4, 6]}
        ],
        "one_shot": [],
    }
    localization = {
        "headline": {"max_box_acc_v2": 0.25, "energy": None},
        "settings": {"map": "cam", "boxes": "b.csv", "resolution": None, "contours": "regions"},
        "model": model,
    }
    localization |= {"evaluated": {"images": 9, "boxes": 9, "sha256": "abc"}}
    localization |= {"map": "cam", "map_of": "label", "resolution": 224}
    write(tmp_path / "few-shot.json", few_shot)
    write(tmp_path / "localization.json", localization)
    return tmp_path


def write(file: Path, content: object) -> None:
    file.write_text(json.dumps(content))


def changed(file: Path, **values: Any) -> None:
    write(file, {**json.loads(file.read_text()), **values})


def test_headlines_are_read_with_what_was_asked(run: Path) -> None:
    found = read_evaluations(run)
    assert found.left_out == ()
    assert found.found["few-shot"].values == {"5-way 1-shot prototype": 0.5}
    facts = '[{"contours": "regions"}, ["abc", "cam", "label", 224]]'
    assert found.found["localization"] == StoredEvaluation({"max_box_acc_v2": 0.25}, facts)


def test_which_numbers_there_are_and_where_the_images_lay_makes_no_difference(run: Path) -> None:
    before = read_evaluations(run).found["few-shot"].facts
    content = json.loads((run / "few-shot.json").read_text())
    more = {**content["settings"], "shots": [1, 5], "heads": ["baseline"]}
    changed(run / "few-shot.json", settings=more, novel={**content["novel"], "source": "moved"})
    assert read_evaluations(run).found["few-shot"].facts == before
    for key, value in (
        ("settings", {**more, "ways": 20}),
        ("novel", None),
        ("novel", {**content["novel"], "targets": "x"}),
        ("novel", {**content["novel"], "content": "other pixels"}),
    ):
        changed(run / "few-shot.json", **{"settings": more, "novel": content["novel"], key: value})
        assert read_evaluations(run).found["few-shot"].facts != before


def test_accuracies_by_episode_are_read(run: Path) -> None:
    found = read_evaluations(run).found["few-shot"].by_episode
    assert found == {"5-way 1-shot prototype": EpisodeAccuracies("xyz", (0.4, 0.6))}


def test_official_runs_are_facts_of_their_own(run: Path) -> None:
    name = "Omniglot one-shot error prototype"
    content = json.loads((run / "few-shot.json").read_text())
    official = {"head": "prototype", "drawings": 20, "right": [20] * 20, "images": "drawings"}
    errors = {name: {"mean": 0.25, "interval": 0.1}}
    changed(run / "few-shot.json", headline={**content["headline"], **errors}, one_shot=[official])
    both = read_evaluations(run).found
    assert both["few-shot"].values == {"5-way 1-shot prototype": 0.5}
    assert both["one-shot"].values == {name: 0.25}
    alone = {"headline": errors, "novel": None, "scores": [], "settings": {**content["settings"], "ways": 20}}
    changed(run / "few-shot.json", **alone)
    found = read_evaluations(run).found
    assert "few-shot" not in found
    assert found["one-shot"] == both["one-shot"]
    changed(run / "few-shot.json", one_shot=[{**official, "images": "others"}])
    assert read_evaluations(run).found["one-shot"].facts != both["one-shot"].facts
    assert evaluation_title("one-shot", name) == f"few-shot: {name}"


def test_of_localization_counts_what_was_measured_however_it_was_asked_for(run: Path) -> None:
    file = run / "localization.json"
    content = json.loads(file.read_text())
    before = read_evaluations(run).found["localization"].facts
    same = {"map": "gradcam", "boxes": "/x/b.csv", "root": "/x", "resolution": 224, "contours": "regions"}
    changed(file, settings=same)
    assert read_evaluations(run).found["localization"].facts == before
    for key, value in (
        ("evaluated", {**content["evaluated"], "sha256": "other boxes"}),
        ("map", "gradcam"),  # of a network without an exact map
        ("map_of", "predicted"),
        ("resolution", 48),  # of images of another size
        ("settings", {**same, "contours": "wsol"}),
    ):
        write(file, {**content, key: value})
        assert read_evaluations(run).found["localization"].facts != before


def test_files_of_other_weights_and_damaged_ones_are_left_out(run: Path) -> None:
    changed(run / "few-shot.json", model="others")
    for content in ("{", "[]", '{"model": 3}'):
        (run / "verification.json").write_text(content)
        changed(run / "localization.json", headline=[])
        found = read_evaluations(run)
        assert found.found == {}
        assert found.left_out[0] == "few-shot.json is of other weights than model.safetensors"
        assert found.left_out[2] == "localization.json is damaged or of another layout"
        assert found.left_out[1].startswith("verification.json is ")


def test_no_file_is_nothing(tmp_path: Path) -> None:
    assert read_evaluations(tmp_path).found == {}


def test_names() -> None:
    assert headline_of({"headline": {"a": {"mean": 1, "interval": None}, "b": 0.5, "c": None}}) == {
        "a": 1.0,
        "b": 0.5,
    }
    assert evaluation_title("localization", "energy") == "localization: energy inside the box"
    assert evaluation_title("few-shot", "5-way 1-shot baseline++") == "few-shot: 5-way 1-shot baseline++"
