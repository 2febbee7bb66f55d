import pytest

from kdcam.data.picture_files import expand_folders, files_below, folders_in, in_threads
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


def test_work_in_threads_keeps_the_order_and_reports():
    class Watcher(Silent):
        seen = ()

        def advance(self, task, done, total):
            self.seen = (*self.seen, (task, done, total))

    watcher = Watcher()
    assert in_threads(lambda i: i * i, 250, task="squares", progress=watcher) == [i * i for i in range(250)]
    assert watcher.seen == (("squares", 100, 250), ("squares", 200, 250), ("squares", 250, 250))
