from pathlib import Path
from typing import Any

import pytest

from kdcam.data.box_files import read_boxes
from kdcam.errors import DataError


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_csv_file_in_which_other_columns_stand_too(tmp_path: Path) -> None:
    file = written(tmp_path, "a.csv", "path,extra,x0,y0,x1,y1\na.png,q,1,2,3.5,4\n\nb/c.png,r,0,0,9,9\n")
    first, second = read_boxes(file)
    assert (first.picture, first.corners, first.edges) == ("a.png", (1, 2, 3.5, 4), (1, 2, 3.5, 4))
    assert (first.class_name, first.by_name, first.frame) == (None, False, None)
    assert (second.picture, second.place) == ("b/c.png", f"{file}, line 4")


def test_inclusive_ends_and_classes_of_a_csv_file(tmp_path: Path) -> None:
    text = "path,class,wnid,x0,y0,x1,y1\na.png,cat,n1,1,2,1,4\n"
    file = written(tmp_path, "a.csv", text)
    (line,) = read_boxes(file, box_ends="inclusive")
    assert (line.edges, line.class_name) == ((1, 2, 2, 5), "cat")
    assert read_boxes(file, box_ends="inclusive", class_column="wnid")[0].class_name == "n1"


def test_tiny_imagenets_files(tmp_path: Path) -> None:
    written(tmp_path, "n2_boxes.txt", "n2_0.JPEG\t0\t10\t63\t58\n")
    written(tmp_path, "n1_boxes.txt", "n1_7.JPEG\t5\t6\t5\t6\n")
    annotations = written(tmp_path, "val_annotations.txt", "val_2.JPEG\tn9\t4\t0\t60\t55\n")
    first, second = read_boxes(tmp_path)
    assert [(line.picture, line.class_name) for line in (first, second)] == [
        ("n1_7.JPEG", "n1"),
        ("n2_0.JPEG", "n2"),
    ]
    assert (first.edges, first.frame, first.by_name) == ((5, 6, 6, 7), 64, True)
    (line,) = read_boxes(annotations)
    assert (line.picture, line.class_name, line.edges) == ("val_2.JPEG", "n9", (4, 0, 61, 56))


HEAD = "path,x0,y0,x1,y1\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "a.csv",
            "path,x0,y0,x1\n",
            r"a\.csv: has no column 'y1'; .*its columns are 'path', 'x0', 'y0', 'x1'",
        ),
        ("a.csv", HEAD, r"a\.csv: holds no box"),
        ("a.csv", HEAD + "a.png,1,2,x,4\n", r"line 2: found '1', '2', 'x', '4' for x0, y0, x1, y1"),
        ("a.csv", HEAD + "a.png,1,2\n", r"line 2: has 3 cells where the first line has 5 columns"),
        ("a.csv", HEAD + "a.png,1,2,inf,4\n", r"line 2: found 1, 2, inf, 4; a box's corners are finite"),
        (
            "a.csv",
            HEAD + "a.png,5,2,4,4\n",
            r"line 2: x1 = 4 does not come after x0 = 5; write the upper left",
        ),
        ("a.csv", HEAD + "a.png,1,4,3,4\n", r"y1 = 4 does not come after y0 = 4; .*--box-ends inclusive"),
        ("val.txt", "a.JPEG 1 2 3 4\n", r"line 1: has 5 words; wanted 'name class x0 y0 x1 y1'"),
        ("n1_boxes.txt", "a.JPEG n1 1 2 3 4\n", r"line 1: has 6 words; wanted 'name x0 y0 x1 y1'"),
        ("a.xml", "<box/>", r"a\.xml: is no file of boxes by its name; allowed: a \.csv file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_boxes(written(tmp_path, name, text))


def test_a_missing_file_a_binary_one_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: cannot be read \(No such file"):
        read_boxes(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"path,x0\xff\xfe\n")
    with pytest.raises(DataError, match=r"b\.csv, line 1: is not written in UTF-8"):
        read_boxes(tmp_path / "b.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no \*_boxes\.txt"):
        read_boxes(tmp_path / "empty")


def test_marks_and_blanks_that_other_programs_leave(tmp_path: Path) -> None:
    text = tmp_path / "val_annotations.txt"
    text.write_text("\ufeffval_2.JPEG\tn9\t4\t0\t60\t55\n", encoding="utf-8")
    assert read_boxes(text)[0].picture == "val_2.JPEG"
    blanks = written(tmp_path, "a.csv", "path, x0, y0, x1, y1, class\na.png, 1, 2, 3, 4, cat\n")
    assert read_boxes(blanks)[0][1:5] == ("a.png", False, "cat", (1, 2, 3, 4))


def test_a_column_that_stands_twice(tmp_path: Path) -> None:
    file = written(tmp_path, "a.csv", "path,x0,y0,x1,y1,x0,more,more\na.png,1,2,3,4,9,0,0\n")
    with pytest.raises(DataError, match=r"a\.csv: has 2 columns 'x0', and which is meant cannot be told"):
        read_boxes(file)


def test_a_name_longer_than_any_file_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(File name too long\)"):
        read_boxes(tmp_path / ("a" * 5000 + ".csv"))


def test_a_class_column_that_is_not_there(tmp_path: Path) -> None:
    file = written(tmp_path, "a.csv", "path,wnid,x0,y0,x1,y1\n")
    with pytest.raises(DataError, match=r"has no column 'wnids'; did you mean 'wnid'\?"):
        read_boxes(file, class_column="wnids")


@pytest.mark.parametrize("keys", [{"box_ends": "exclusive"}, {"class_column": "wnid"}])
@pytest.mark.parametrize("name", ["n1_boxes.txt", "."])
def test_what_text_files_say_themselves_is_refused(tmp_path: Path, name: str, keys: dict[str, Any]) -> None:
    written(tmp_path, "n1_boxes.txt", "n1_7.JPEG\t5\t6\t5\t6\n")
    ((key, value),) = keys.items()
    said = rf"{key} \(--{key.replace('_', '-')}\) = {value} is of CSV files only"
    with pytest.raises(DataError, match=said):
        read_boxes(tmp_path / name, **keys)
