from pathlib import Path

import pytest
from PIL import Image

from kdcam.data.batches.decoding import map_in_threads
from kdcam.data.sources.picture_files import named_file, readable_pictures
from kdcam.errors import DataError, Interrupted
from kdcam.files.folder_listing import files_below
from kdcam.runtime.progress import Silent


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


class Told(Silent):
    def __init__(self):
        self.messages, self.warnings = [], []

    def message(self, text):
        self.messages.append(text)

    def warning(self, text):
        self.warnings.append(text)


def test_a_folder_stands_for_its_pictures(tmp_path):
    pictures = [tmp_path / "c.png", tmp_path / "p" / "b.png", tmp_path / "p" / "deeper" / "a.JPG"]
    touch(*pictures, tmp_path / "p" / ".hidden" / "d.png", tmp_path / "p" / "._b.png")
    for path in pictures:
        Image.new("RGB", (4, 4)).save(path)
    told = Told()
    given = [tmp_path / "c.png", str(tmp_path / "p")]
    assert readable_pictures(given, progress=told) == pictures
    assert told.messages == told.warnings == []
    with pytest.raises(DataError, match=r"1 of 4 files .*missing\.png: cannot be opened"):
        readable_pictures([*given, tmp_path / "missing.png"], progress=told)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: the folder holds no picture; name"):
        readable_pictures([tmp_path / "empty"], progress=told)
    touch(tmp_path / "empty" / "readme.txt")
    with pytest.raises(DataError, match=r"empty: the folder holds no picture \(1 other files\)"):
        readable_pictures([tmp_path / "empty"], progress=told)


def test_files_of_a_folder_that_are_no_pictures_are_counted(tmp_path, paint):
    paint(tmp_path / "p", 2)
    touch(tmp_path / "p" / "readme.txt", tmp_path / "p" / "labels.csv", tmp_path / "p" / "LICENSE")
    pictures = sorted((tmp_path / "p").glob("*.png"))
    (tmp_path / "p" / "withoutsuffix").write_bytes(pictures[0].read_bytes())
    told = Told()
    assert readable_pictures([tmp_path / "p"], progress=told) == [*pictures, tmp_path / "p" / "withoutsuffix"]
    assert told.messages == [f"{tmp_path / 'p'}: 3 files that are no pictures by their names are left out"]
    assert told.warnings == []


def test_broken_pictures_of_a_folder_are_named_and_left_out(tmp_path, paint):
    paint(tmp_path / "p", 2)
    good = files_below(tmp_path / "p")
    (tmp_path / "p" / "broken.png").write_bytes(b"no picture")
    told = Told()
    assert readable_pictures([tmp_path / "p"], progress=told) == good
    [warning] = told.warnings
    assert "1 of 3 files cannot be read as pictures" in warning
    assert "broken.png: not an image" in warning
    for path in good:
        path.write_bytes(b"")
    with pytest.raises(DataError, match="3 of 3 files cannot be read"):
        readable_pictures([tmp_path / "p"], progress=told)


def test_a_broken_picture_that_is_named_itself_is_an_error(tmp_path, paint):
    paint(tmp_path / "p", 2)
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(
        DataError, match=r"1 of 3 files .*notes\.txt: not an image.* name the good ones alone"
    ):
        readable_pictures([tmp_path / "p", tmp_path / "notes.txt"], progress=Silent())


def test_looking_at_many_pictures_can_be_stopped(tmp_path, paint):
    class Stopping(Silent):
        def should_stop(self):
            return True

    paint(tmp_path / "p", 2)
    with pytest.raises(Interrupted, match="stopped"):
        readable_pictures([tmp_path / "p"], progress=Stopping())


def test_a_file_is_named_from_the_root_on(tmp_path, monkeypatch):
    root = tmp_path / "photos"
    touch(root / "in.csv", tmp_path / "beside.csv", tmp_path / "work" / "here.csv")
    monkeypatch.chdir(tmp_path / "work")
    assert named_file(root, Path("in.csv"), key="data.labels") == root / "in.csv"
    assert named_file(root, tmp_path / "beside.csv", key="data.labels") == tmp_path / "beside.csv"
    for named, wanted in (
        ("beside.csv", tmp_path / "beside.csv"),
        ("here.csv", tmp_path / "work" / "here.csv"),
        ("photos/in.csv", "in.csv"),
    ):
        looked_for = rf"data\.labels: {named} is looked for in data\.root, and {root / named} is not there"
        with pytest.raises(DataError, match=rf'{looked_for}; to take .*, write labels = "{wanted}"$'):
            named_file(root, Path(named), key="data.labels")
    with pytest.raises(
        DataError, match=rf"is not there; name the file by its path from data\.root = {root} on"
    ):
        named_file(root, Path("nowhere.csv"), key="data.labels")
    with pytest.raises(DataError, match="is no file"):
        named_file(root, tmp_path, key="data.labels")


def test_work_in_threads_keeps_the_order_and_reports():
    class Watcher(Silent):
        seen = ()

        def advance(self, task, done, total):
            self.seen = (*self.seen, (task, done, total))

    watcher = Watcher()
    assert map_in_threads(lambda i: i * i, 250, task="squares", progress=watcher) == [
        i * i for i in range(250)
    ]
    assert watcher.seen == (("squares", 100, 250), ("squares", 200, 250), ("squares", 250, 250))
