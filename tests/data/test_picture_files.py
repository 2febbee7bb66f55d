import pytest

from kdcam.data.picture_files import expand_folders, files_below, folders_in, in_threads, readable_pictures
from kdcam.errors import DataError
from kdcam.progress import Silent


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_hidden_files_and_litter_are_no_pictures(tmp_path):
    touch(*(tmp_path / name for name in ("b.png", "a/c.png", ".DS_Store", "Thumbs.db", "desktop.ini")))
    touch(tmp_path / "__MACOSX" / "x.png", tmp_path / ".cache" / "y.png")
    assert files_below(tmp_path / "a") == [tmp_path / "a" / "c.png"]
    assert tmp_path / "b.png" in files_below(tmp_path)
    assert not {".DS_Store", "Thumbs.db", "desktop.ini"} & {path.name for path in files_below(tmp_path)}
    assert folders_in(tmp_path) == [tmp_path / "a"]


def test_a_folder_stands_for_its_files(tmp_path):
    touch(tmp_path / "p" / "b.png", tmp_path / "p" / "deeper" / "a.png", tmp_path / "c.png")
    missing = tmp_path / "missing.png"  # whoever reads it says so
    assert expand_folders([tmp_path / "c.png", str(tmp_path / "p"), missing]) == [
        tmp_path / "c.png",
        tmp_path / "p" / "b.png",
        tmp_path / "p" / "deeper" / "a.png",
        missing,
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: the folder holds no picture"):
        expand_folders([tmp_path / "empty"])


def test_files_that_are_no_pictures_are_named_with_the_way_out(tmp_path, paint):
    paint(tmp_path / "p", 2)
    assert readable_pictures([tmp_path / "p"]) == files_below(tmp_path / "p")
    (tmp_path / "p" / "README.md").write_text("no picture")
    with pytest.raises(
        DataError, match=r"1 of 3 files .*README\.md: not an image.* name the good ones alone"
    ):
        readable_pictures([tmp_path / "p"])


def test_work_in_threads_keeps_the_order_and_reports():
    class Watcher(Silent):
        seen = ()

        def advance(self, task, done, total):
            self.seen = (*self.seen, (task, done, total))

    watcher = Watcher()
    assert in_threads(lambda i: i * i, 250, task="squares", progress=watcher) == [i * i for i in range(250)]
    assert watcher.seen == (("squares", 100, 250), ("squares", 200, 250), ("squares", 250, 250))
