import os

import pytest

from kdcam.errors import DataError
from kdcam.files.folder_listing import files_below, files_in, folders_in, nfc, real_paths, tree_below


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_hidden_files_and_litter_are_left_out(tmp_path):
    touch(
        *(
            tmp_path / name
            for name in ("b.png", "a/c.png", ".DS_Store", "Thumbs.db", "desktop.ini", "._b.png")
        )
    )
    touch(tmp_path / "__MACOSX" / "x.png", tmp_path / ".cache" / "y.png", tmp_path / "a" / "@eaDir" / "z.png")
    assert files_below(tmp_path) == [tmp_path / "a" / "c.png", tmp_path / "b.png"]
    assert files_in(tmp_path) == [tmp_path / "b.png"]
    assert folders_in(tmp_path) == [tmp_path / "a"]


@pytest.mark.parametrize("name", ["__background__", "@home", "#1", "$100", "tmp"])
def test_unusual_names_are_not_hidden(tmp_path, name):
    touch(tmp_path / name / "a.png")
    assert folders_in(tmp_path) == [tmp_path / name]
    assert files_below(tmp_path) == [tmp_path / name / "a.png"]


def test_each_real_folder_and_file_counts_once_by_its_own_path(tmp_path):
    touch(tmp_path / "z" / "one.png", tmp_path / "out" / "two.png", tmp_path / "out" / "in" / "three.png")
    (tmp_path / "z" / "a").symlink_to(tmp_path / "z")  # to where it lies
    (tmp_path / "z" / "b").symlink_to(tmp_path)  # to above, where out/ lies too
    (tmp_path / "z" / "c").symlink_to(tmp_path / "out" / "in")
    (tmp_path / "z" / "d").symlink_to(tmp_path / "out")
    (tmp_path / "z" / "e.png").symlink_to(tmp_path / "z" / "one.png")
    (tmp_path / "z" / "f.png").symlink_to(tmp_path / "out" / "two.png")
    found = tree_below(tmp_path / "z")
    assert found.has_links
    assert found.files == tuple(tmp_path / "z" / name for name in ("c/three.png", "d/two.png", "one.png"))
    assert len(set(real_paths(found.files))) == 3
    assert not tree_below(tmp_path / "out").has_links
    assert tree_below(tmp_path / "z" / "d").has_links


def test_links_in_a_circle_end(tmp_path):
    touch(tmp_path / "a" / "1.png", tmp_path / "b" / "2.png")
    (tmp_path / "a" / "b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "a").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "itself").symlink_to(
        tmp_path / "a" / "itself"
    )  # leads nowhere: whoever reads it says so
    assert [path.name for path in files_below(tmp_path / "a")] == ["1.png", "2.png", "itself"]


def test_real_paths_resolve_links_of_files_and_folders(tmp_path):
    touch(tmp_path / "a" / "1.png")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "c.png").symlink_to(tmp_path / "b" / "1.png")
    real = os.path.realpath(tmp_path / "a" / "1.png")
    assert (
        list(real_paths([tmp_path / "b" / "1.png", tmp_path / "c.png", tmp_path / "a" / "1.png"]))
        == [real] * 3
    )


def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    for name in ("missing", "x" * 300, "nul\0"):
        for look in (folders_in, files_in, files_below):
            with pytest.raises(DataError, match="the folder cannot be listed"):
                look(tmp_path / name)


def test_names_are_compared_in_composed_form():
    assert nfc("do\u0308g") == nfc("d\u00f6g") == "d\u00f6g"
