import errno
import json
import tomllib
from pathlib import Path

import pytest


def test_list_and_show(kdcam) -> None:
    found = kdcam("recipes", "list")
    assert found.code == 0
    assert "digits" in found.out
    entries = json.loads(kdcam("recipes", "list", "--json").out)
    commands = {entry["name"]: entry["command"] for entry in entries}
    assert set(commands.values()) == {"train", "distill", "finetune"}
    assert commands["transfer/lite0-finetune"] == "finetune"
    shown = kdcam("recipes", "show", "digits").out
    assert tomllib.loads(shown) == json.loads(kdcam("recipes", "show", "digits", "--json").out)


def test_an_unknown_recipe_suggests_a_name(kdcam) -> None:
    found = kdcam("recipes", "show", "digitz")
    assert found.code == 1
    assert "did you mean 'digits'?" in found.err


def test_schema_names_every_key(kdcam) -> None:
    schema = json.loads(kdcam("recipes", "schema").out)
    assert {"data", "model", "loss", "optimizer", "schedule", "teacher"} <= set(schema["properties"])
    assert "teacher" not in schema.get("required", [])


def test_new_writes_a_recipe_that_trains(kdcam, photos: Path) -> None:
    found = kdcam("recipes", "new", photos, "-o", "new.toml")
    assert found.code == 0
    assert "2 classes" in found.out
    assert "next: kdcam train new.toml" in found.out
    trained = kdcam("train", "new.toml", "--set", "epochs=1", "--json")
    assert trained.code == 0, trained.err
    assert json.loads(trained.out)["label_names"] == ["cat", "dog"]


def test_new_prints_without_output_and_as_json(kdcam, photos: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    recipe = tomllib.loads(kdcam("recipes", "new", photos).out)
    document = json.loads(kdcam("recipes", "new", photos, "--json").out)
    assert document["recipe"] == recipe
    assert document["file"] is None
    assert sorted(tmp_path.iterdir()) == before


def test_new_does_not_overwrite(kdcam, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("epochs = 3\n")
    found = kdcam("recipes", "new", photos, "-o", "mine.toml")
    assert found.code == 1
    assert "not overwritten" in found.err
    assert (tmp_path / "mine.toml").read_text() == "epochs = 3\n"


@pytest.mark.parametrize(("folder", "said"), [("nowhere", "not there"), (".", "at least 2")])
def test_new_on_a_folder_that_holds_no_classes(kdcam, folder: str, said: str) -> None:
    found = kdcam("recipes", "new", folder, "-o", "new.toml")
    assert found.code == 1
    assert said in found.err
    assert not Path("new.toml").exists()


def test_a_recipe_that_cannot_be_written_whole_does_not_bar_the_next_try(
    kdcam, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("kdcam.atomic.os.write", full)
        found = kdcam("recipes", "new", photos, "-o", "new.toml")
    assert found.code == 1
    assert "new.toml: 0.0 MB could not be written (No space left on device)" in found.err
    assert not list(Path().glob("*new.toml*"))
    assert kdcam("recipes", "new", photos, "-o", "new.toml").code == 0


def test_new_into_a_folder_that_is_not_there(kdcam, photos: Path) -> None:
    found = kdcam("recipes", "new", photos, "-o", "nowhere/new.toml")
    assert found.code == 1
    assert "nowhere/new.toml: 0.0 MB could not be written (No such file" in found.err
