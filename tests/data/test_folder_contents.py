import json
from pathlib import Path

import numpy
import pytest
from PIL import Image

from kdcam.data import folder_contents
from kdcam.data.folder_contents import measure_folder, measure_machine
from kdcam.data.source_configs import ImageLabelsConfig, YoloLabelsConfig
from kdcam.errors import DataError
from kdcam.runtime.progress import Silent


def fill(folder: Path, count: int, *, height: int = 40, width: int = 30) -> Path:
    folder.mkdir(parents=True)
    for index in range(count):
        array = numpy.full((height + index, width), index, dtype=numpy.uint8)
        Image.fromarray(array).save(folder / f"{index}.png")
    return folder


def test_a_folder_is_measured_and_read(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "a", 3)
    fill(tmp_path / "train" / "b", 5)
    (tmp_path / "train" / "b" / "broken.png").write_bytes(b"no picture")
    good = (tmp_path / "train" / "b" / "0.png").read_bytes()
    (tmp_path / "train" / "b" / "cut.png").write_bytes(good[:-30])  # its header is whole
    facts = measure_folder(tmp_path, progress=Silent())
    assert facts.train_counts == (3, 5)
    assert facts.images == 8
    assert set(facts.short_sides) == {30}
    assert facts.is_gray
    assert (facts.own_validation, facts.own_test) == (None, None)
    assert [reason.split(": ")[0].rsplit("/", 1)[1] for reason in facts.unreadable] == [
        "broken.png",
        "cut.png",
    ]
    sizes = facts.sizes(test=0.25, validation=0.0)
    assert (sizes.train + sizes.test, sizes.validation) == (8, 0)
    assert 1 <= sizes.test <= 2
    with pytest.raises(DataError, match="holds out no image"):
        facts.sizes(test=0.01, validation=0.0)


def test_parts_of_their_own_are_counted(tmp_path: Path) -> None:
    for part, count in (("Train", 4), ("val", 2), ("testset", 3)):
        fill(tmp_path / part / "a", count)
        fill(tmp_path / part / "b", count)
    (tmp_path / "val" / "b" / "0.png").write_bytes(b"")
    (tmp_path / "val" / "b" / "1.png").write_bytes(b"")
    facts = measure_folder(tmp_path, progress=Silent())
    assert (facts.images, facts.own_validation, facts.own_test) == (8, 2, 6)
    sizes = facts.sizes(test=None, validation=None)
    assert (sizes.train, sizes.validation, sizes.test) == (8, 2, 6)
    assert sizes.warnings == (
        "the validation part has no image of 1 of 2 classes ('b'): its scores say nothing of them",
    )


def test_of_many_files_some_headers_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_contents, "_READ", 10)
    fill(tmp_path / "a", 6)
    fill(tmp_path / "b", 6)
    facts = measure_folder(tmp_path, progress=Silent())
    assert facts.read is None
    assert facts.train_counts == (6, 6)
    sizes = facts.sizes(test=0.25, validation=0.25)
    assert (sizes.train, sizes.validation, sizes.test) == (7, 2, 3)


def test_a_folder_without_a_picture(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match="not one of 2 files"):
        measure_folder(tmp_path, progress=Silent())


def test_label_files(tmp_path: Path) -> None:
    fill(tmp_path / "photos", 6)
    (tmp_path / "photos" / "labels.json").write_text(
        json.dumps({f"{number}.png": ["sea"] if number % 2 else ["sea", "sky"] for number in range(6)})
    )
    with pytest.raises(
        DataError, match=r"holds 0 class folders.*; if labels\.json tells .* add --labels .*labels\.json$"
    ):
        measure_folder(tmp_path / "photos", progress=Silent())
    facts = measure_folder(tmp_path / "photos", labels=tmp_path / "photos" / "labels.json", progress=Silent())
    assert isinstance(facts.config, ImageLabelsConfig)
    assert facts.config.labels == Path("labels.json")
    assert (facts.label_names, facts.train_counts, facts.images) == (("sea", "sky"), (6, 3), 6)
    (tmp_path / "photos" / "labels.json").rename(tmp_path / "labels.json")
    facts = measure_folder(tmp_path / "photos", labels=tmp_path / "labels.json", progress=Silent())
    assert isinstance(facts.config, ImageLabelsConfig)
    assert facts.config.labels == (tmp_path / "labels.json").resolve()
    for labels, said in (("labels.txt", "ends in .csv or .json"), ("no.csv", "there is no such label file")):
        with pytest.raises(DataError, match=said):
            measure_folder(tmp_path / "photos", labels=tmp_path / labels, progress=Silent())


def test_yolo_folders(tmp_path: Path) -> None:
    fill(tmp_path / "images", 4)
    (tmp_path / "labels").mkdir()
    for number in range(3):
        (tmp_path / "labels" / f"{number}.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    (tmp_path / "classes.txt").write_text("sea\nsky\n")
    facts = measure_folder(tmp_path, progress=Silent())
    assert isinstance(facts.config, YoloLabelsConfig)
    assert (facts.train_counts, facts.images) == ((0, 3), 4)


def test_a_folder_that_no_recipe_can_name_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / b"caf\xe9".decode(errors="surrogateescape")
    fill(folder / "a", 1)
    fill(folder / "b", 1)
    with pytest.raises(DataError, match=r"caf.*the path is not UTF-8, so that no recipe can name it"):
        measure_folder(folder, progress=Silent())


def test_this_machine_has_cores() -> None:
    assert measure_machine().cores >= 1
