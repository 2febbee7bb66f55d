import errno
import json
import re
import tomllib
from pathlib import Path

import pytest
from PIL import Image


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
        broken.setattr("kdcam.files.atomic_writes.os.write", full)
        found = kdcam("recipes", "new", photos, "-o", "new.toml")
    assert found.code == 1
    assert "new.toml: 0.0 MB could not be written (No space left on device)" in found.err
    assert not list(Path().glob("*new.toml*"))
    assert kdcam("recipes", "new", photos, "-o", "new.toml").code == 0


def test_new_into_a_folder_that_is_not_there(kdcam, photos: Path) -> None:
    found = kdcam("recipes", "new", photos, "-o", "nowhere/new.toml")
    assert found.code == 1
    assert "nowhere/new.toml: 0.0 MB could not be written (No such file" in found.err


def paint_classes(root: Path, counts: dict[str, int]) -> Path:
    for shade, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (40, 36), (60 * shade, 5 * number, 90)).save(root / name / f"{number}.png")
    return root


def tables_of_pictures(root: Path) -> None:
    """Make folders for which a recipe is to be written, one for each case of the test below."""
    for each in (1, 2, 3, 4, 5, 12):
        paint_classes(root / f"each-{each}", {"cat": each, "dog": each})
    paint_classes(root / "uneven", {"cat": 30, "dog": 1, "emu": 3})
    for part, each in (("train", 3), ("val", 2), ("test", 1)):
        paint_classes(root / "parts" / part, {"cat": each, "dog": each})
    paint_classes(root / "broken", {"cat": 12, "dog": 9})
    good = (root / "broken" / "cat" / "0.png").read_bytes()
    for name, content in (("a.txt", b"mine"), ("b.png", b""), ("c.png", good[:-20])):
        (root / "broken" / "dog" / name).write_bytes(content)
    for name, files in (("labels", ""), ("yolo", "images")):
        paint_classes(root / name, {files or "p": 20})
    lines = "".join(f"p/{number}.png,{'sea;sky' if number % 3 else 'sky'}\n" for number in range(20))
    (root / "labels" / "labels.csv").write_text(f"image,labels\n{lines}")
    (root / "yolo" / "labels").mkdir()
    (root / "yolo" / "classes.txt").write_text("sea\nsky\nrain\n")
    for number in range(20):
        (root / "yolo" / "labels" / f"{number}.txt").write_text(f"{number % 2} 0.5 0.5 0.1 0.1\n")


CASES = [
    *(f"each-{each}" for each in (1, 2, 3, 4, 5, 12)),
    *("uneven", "parts", "broken", "labels --labels labels/labels.csv", "yolo"),
]


@pytest.mark.parametrize("case", CASES)
def test_new_says_what_train_will_do(kdcam, tmp_path: Path, case: str) -> None:
    tables_of_pictures(tmp_path)
    found = kdcam("recipes", "new", *case.split(), "-o", "new.toml", "--json")
    assert found.code == 0, found.err
    note = json.loads(found.out)["notes"][0]
    told = re.search(
        r"([\d,]+) pictures: (\d+) to train on, (\d+) (?:held out )?for validation, (\d+) (?:held out )?for test",
        note,
    )
    assert told, note
    total, train, validation, test = map(int, told.groups())
    assert total == train + validation + test
    dry = kdcam("train", "new.toml", "--dry-run", "--json")
    assert dry.code == 0, dry.err
    quick = ("--set", "epochs=2", "--set", "schedule.warmup_epochs=0")
    trained = kdcam("train", "new.toml", *quick, "--json")
    assert trained.code == 0, trained.err
    images = json.loads(trained.out)["images"]
    assert images == {"train": train, "validation": validation, "test": test}
    comments = (tmp_path / "new.toml").read_text()
    for part, size in (("validation", validation), ("test", test)):
        [line] = re.findall(rf"^{part} = .*$", comments, re.MULTILINE) or [""]
        assert not line or line.endswith((f": {size} pictures", "none: too few pictures")), line


def test_new_refuses_a_class_without_a_picture(kdcam, tmp_path: Path) -> None:
    paint_classes(tmp_path / "d", {"cat": 5, "dog": 5, "emu": 0})
    (tmp_path / "d" / "emu" / "x.png").write_bytes(b"no picture")
    found = kdcam("recipes", "new", "d", "-o", "new.toml")
    assert found.code == 1
    assert "no training image of class 'emu'" in found.err
    assert len(found.err.splitlines()) == 1
    assert not Path("new.toml").exists()


def test_classes_that_a_part_lacks_are_told_of(kdcam, tmp_path: Path) -> None:
    for part, counts in (("train", (6, 6, 6)), ("val", (2, 0, 2)), ("test", (2, 2, 0))):
        paint_classes(tmp_path / "d" / part, dict(zip(("ant", "bee", "cat"), counts, strict=True)))
    written = kdcam("recipes", "new", "d", "-o", "new.toml")
    assert written.code == 0, written.err
    of_validation = (
        "the validation part has no image of 1 of 3 classes ('bee'): its scores say nothing of them"
    )
    of_test = "the test part has no image of 1 of 3 classes ('cat'): its scores say nothing of them"
    dry = kdcam("train", "new.toml", "--dry-run")
    trained = kdcam("train", "new.toml", "--set", "epochs=2", "-q")
    scored = kdcam("evaluate", "runs/new-0")
    for found in (dry, trained, scored):
        assert found.code == 0
        assert found.err.count(f"warning: {of_validation}") == 1
        assert found.err.count(f"warning: {of_test}") == 1
    assert of_validation in written.out
