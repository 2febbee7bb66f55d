from pathlib import Path

import pytest

from kdcam.data.identity_folder import IdentityFolder, natural_order
from kdcam.errors import DataError


def made(folder: Path, *files: str) -> IdentityFolder:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return IdentityFolder(folder)


def test_natural_order_counts() -> None:
    names = ["s10", "s2", "S1", "s1b", "10.pgm", "9.pgm"]
    assert sorted(names, key=natural_order) == ["9.pgm", "10.pgm", "S1", "s1b", "s2", "s10"]


def test_pictures_called_by_person_and_number_keep_it(tmp_path: Path) -> None:
    folder = made(tmp_path, "Al_Roe/Al_Roe_0003.jpg", "Al_Roe/Al_Roe_0012.png", "Al_Roe/notes.txt")
    pictures = folder.pictures("Al_Roe")
    assert {number: path.name for number, path in pictures.items()} == {
        3: "Al_Roe_0003.jpg",
        12: "Al_Roe_0012.png",
    }


def test_other_names_are_numbered_in_natural_order(tmp_path: Path) -> None:
    folder = made(tmp_path, *(f"s1/{number}.pgm" for number in range(1, 11)), "s1/.hidden")
    assert folder.picture("s1", 10).name == "10.pgm"
    assert folder.picture("s1", 2).name == "2.pgm"
    assert len(folder.pictures("s1")) == 10
    assert made(tmp_path, "s10/a", "s2/a").people == ("s1", "s2", "s10")


def test_what_is_not_there(tmp_path: Path) -> None:
    folder = made(tmp_path, "ann/1.png", "ann/2.png", "ann/3.png")
    (tmp_path / "bob").mkdir()
    with pytest.raises(DataError, match=r"no picture 4 of 'ann'; .*ann holds 3, numbered 1-3"):
        folder.picture("ann", 4)
    with pytest.raises(DataError, match=r"no folder of 'anne' in .*; did you mean 'ann'\?"):
        folder.picture("anne", 1)
    with pytest.raises(DataError, match=r"bob holds no picture"):
        folder.pictures("bob")
    with pytest.raises(DataError, match=r"root: .*nowhere is not there"):
        IdentityFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"root: .*1\.png is a file"):
        IdentityFolder(tmp_path / "ann" / "1.png")


def test_two_files_of_one_number(tmp_path: Path) -> None:
    folder = made(tmp_path, "A/A_0001.jpg", "A/A_0001.png")
    with pytest.raises(DataError, match=r"A_0001\.jpg and A_0001\.png are both picture 1"):
        folder.pictures("A")


def test_gaps_are_told(tmp_path: Path) -> None:
    folder = made(tmp_path, "A/A_0001.jpg", "A/A_0002.jpg", "A/A_0005.jpg")
    with pytest.raises(DataError, match=r"holds 3, numbered 1-2, 5"):
        folder.picture("A", 3)
