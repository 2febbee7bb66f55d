import os
import shutil
from pathlib import Path

import pytest
from face_folders import face_folder

from kdcam.data.verification_pairs import Pairs, read_pairs
from kdcam.errors import DataError


def shown(pairs: Pairs) -> list[tuple[str, str, bool]]:
    names = [path.relative_to(pairs.root).as_posix() for path in pairs.paths]
    both = zip(pairs.first, pairs.second, pairs.same, strict=True)
    return [(names[one], names[other], bool(same)) for one, other, same in both]


def lists(folder: Path, **texts: str) -> Path:
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name.removeprefix('f')}.txt").write_text(text)
    return folder


@pytest.fixture
def named_faces(tmp_path: Path) -> Path:
    folder = face_folder(tmp_path / "named", ["Al_Roe", "Bo"])
    for file in folder.glob("*/*.png"):
        file.rename(file.with_name(f"{file.parent.name}_{int(file.stem):04d}.png"))
    return folder


def test_two_lists_a_fold(tmp_path: Path, named_faces: Path) -> None:
    folder = lists(
        tmp_path / "lists",
        f01_test_same="Al_Roe_0001 Al_Roe_0002\nBo_0001 Bo_0002\n",
        f01_test_diff="Al_Roe_0001 Bo_0001\nAl_Roe_0002 Bo_0001\n",
        f02_test_same="Bo_0003 Bo_0004\n",
        f02_test_diff="Bo_0003 Al_Roe_0005\n",
        f01_train_same="not read",
    )
    pairs = read_pairs(folder, named_faces)
    assert pairs.folds is not None
    assert pairs.folds.tolist() == [0, 0, 0, 0, 1, 1]
    assert pairs.same.tolist() == [True, False, True, False, True, False]
    assert shown(pairs)[0] == ("Al_Roe/Al_Roe_0001.png", "Al_Roe/Al_Roe_0002.png", True)
    one = read_pairs(folder / "02_test_diff.txt", named_faces)
    assert shown(one) == shown(pairs)[4:]
    assert one.folds is None


def test_lists_of_pictures_without_folders(tmp_path: Path, named_faces: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in named_faces.glob("*/*.png"):
        file.rename(flat / file.name)
    folder = lists(tmp_path / "lists", fsame="Bo_0003 Bo_0004\n", fdiff="Bo_0003 Al_Roe_0005\n")
    pairs = read_pairs(folder, flat)
    assert shown(pairs)[1] == ("Bo_0003.png", "Al_Roe_0005.png", False)
    assert pairs.people == ("Al_Roe", "Bo")


def test_wrong_lists(tmp_path: Path, named_faces: Path) -> None:
    folder = lists(tmp_path / "lists", f1_same="Bo_0001 Bo_0002\n", f1_diff="Bo_0001 Bo_0002\n")
    with pytest.raises(
        DataError, match=r"1_diff\.txt, line 1: Bo_0001 and Bo_0002 show one person, and this is"
    ):
        read_pairs(folder, named_faces)
    (folder / "1_diff.txt").write_text("Bo_0001\n")
    with pytest.raises(DataError, match=r"1_diff\.txt, line 1: found 'Bo_0001'; allowed: two names such as"):
        read_pairs(folder, named_faces)
    (folder / "1_diff.txt").write_text("\nBo_0001 Al_Roe_0017\n")
    with pytest.raises(DataError, match=r"1_diff\.txt, line 2: there is no picture 17 of 'Al_Roe'"):
        read_pairs(folder, named_faces)
    (folder / "1_diff.txt").unlink()
    with pytest.raises(DataError, match=r"1_same\.txt: misses its partner 1_diff\.txt"):
        read_pairs(folder, named_faces)
    with pytest.raises(DataError, match=r"holds no lists of pairs"):
        read_pairs(named_faces, named_faces)
    with pytest.raises(DataError, match=r"gone_same\.txt: is not there"):
        read_pairs(folder / "gone_same.txt", named_faces)
    with pytest.raises(DataError, match=r"gone\.txt: cannot be read"):
        read_pairs(folder / "gone.txt", named_faces)


def test_files_without_a_number_beside_others_are_told(tmp_path: Path, named_faces: Path) -> None:
    shutil.copy(named_faces / "Bo" / "Bo_0001.png", named_faces / "Bo" / "holiday.png")
    file = tmp_path / "pairs.txt"
    file.write_text("1\nBo 1 2\nBo 1 Al_Roe 1\n")
    (note,) = read_pairs(file, named_faces).notes
    assert "1 files have no number" in note
    assert note.endswith("left out of 'Bo'")


@pytest.mark.parametrize("stem", ["/a_0001", "**a_0001", "../named/Bo_0001", "._0001"])
def test_stems_that_are_no_names(tmp_path: Path, named_faces: Path, stem: str) -> None:
    folder = lists(tmp_path / "lists", fsame="Bo_0003 Bo_0004\n", fdiff=f"Bo_0003 {stem}\n")
    with pytest.raises(DataError, match=r"diff\.txt, line 1: there is no folder of"):
        read_pairs(folder, named_faces)


def test_a_folder_without_people_is_listed_once(
    tmp_path: Path, named_faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in named_faces.glob("*/*.png"):
        file.rename(flat / file.name)
    diff = "".join(f"Bo_000{one} Al_Roe_000{other}\n" for one in range(1, 6) for other in range(1, 6))
    folder = lists(tmp_path / "lists", fsame="Bo_0003 Bo_0004\n", fdiff=diff)
    asked = []
    scandir, listdir = os.scandir, os.listdir
    monkeypatch.setattr("os.scandir", lambda *place: asked.append(place) or scandir(*place))
    monkeypatch.setattr("os.listdir", lambda *place: asked.append(place) or listdir(*place))
    assert len(read_pairs(folder, flat)) == 26
    assert 1 <= sum(str(flat) in map(str, place) for place in asked) <= 2  # for people, and for pictures
    shutil.copy(flat / "Bo_0003.png", flat / "Bo_0003.jpg")
    with pytest.raises(DataError, match=r"Bo_0003\.jpg and Bo_0003\.png are both Bo_0003; remove one"):
        read_pairs(folder, flat)


def test_what_file_managers_leave_among_lists(tmp_path: Path, named_faces: Path) -> None:
    folder = lists(tmp_path / "lists", f1_test_same="Bo_0003 Bo_0004\n", f1_test_diff="Bo_0003 Al_Roe_0005\n")
    (folder / "._1_test_same.txt").write_bytes(b"\0\5\x16\7")
    assert len(read_pairs(folder, named_faces)) == 2
