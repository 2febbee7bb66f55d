import shutil
from pathlib import Path

import numpy
import pytest
from face_folders import face_folder
from sklearn.model_selection import KFold

from kdcam.data.verification_pairs import Pairs, contiguous_folds, folds_of, read_pairs
from kdcam.errors import DataError


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return face_folder(tmp_path / "faces")


def written(folder: Path, text: str, name: str = "pairs.txt") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def shown(pairs: Pairs) -> list[tuple[str, str, bool]]:
    names = [path.relative_to(pairs.root).as_posix() for path in pairs.paths]
    both = zip(pairs.first, pairs.second, pairs.same, strict=True)
    return [(names[one], names[other], bool(same)) for one, other, same in both]


LFW = "2\t1\nann\t1\t2\nann\t1\tbob\t5\ncy\t4\t3\ncy\t4\tdee\t1\n"


def test_lfw_file(tmp_path: Path, faces: Path) -> None:
    pairs = read_pairs(written(tmp_path, LFW), faces)
    assert shown(pairs) == [
        ("ann/1.png", "ann/2.png", True),
        ("ann/1.png", "bob/5.png", False),
        ("cy/4.png", "cy/3.png", True),
        ("cy/4.png", "dee/1.png", False),
    ]
    assert pairs.folds is not None
    assert pairs.folds.tolist() == [0, 0, 1, 1]
    assert len(pairs.paths) == 6  # ann/1 and cy/4 come twice
    assert pairs.people == ("ann", "bob", "cy", "dee")
    assert pairs.unnamed == 0


def test_blanks_part_columns_as_tabs_do(tmp_path: Path, faces: Path) -> None:
    spaced = written(tmp_path, LFW.replace("\t", "  ") + "\n", "spaced.txt")
    assert shown(read_pairs(spaced, faces)) == shown(read_pairs(written(tmp_path, LFW), faces))


def test_names_with_blanks_need_tabs(tmp_path: Path) -> None:
    faces = face_folder(tmp_path / "faces", ["Ann Lee", "Bob"])
    pairs = read_pairs(written(tmp_path, "1\nAnn Lee\t1\t2\nAnn Lee\t1\tBob\t1\n"), faces)
    assert pairs.people == ("Ann Lee", "Bob")


def test_a_single_block_has_its_kinds_in_turn(tmp_path: Path, faces: Path) -> None:
    text = "3\nann 1 2\nann 2 3\nbob 1 2\nann 1 bob 1\nann 2 cy 1\nbob 1 cy 1\n"
    pairs = read_pairs(written(tmp_path, text), faces)
    assert pairs.folds is None
    assert pairs.same.tolist() == [True, False] * 3
    assert folds_of(pairs, 3).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"pairs\.txt: is empty"),
        ("ann 1 2\n", r"pairs\.txt: begins with 'ann 1 2'; allowed: a line with the number of folds"),
        ("2 1\nann 1 2\n", r"says 2 x 2 x 1 pairs, 4 in all, and 1 lines follow"),
        ("1\nann 1 2\nann 1 bob\n", r"line 3: found 'ann 1 bob'; allowed: Name i j, or Name i Other j"),
        ("1\nann 1 2\nann 1\n", r"line 3: found 'ann 1'"),
        ("1\nann 1 2\nann 1 ann 2\n", r"line 3: names 'ann' twice"),
        ("1\n\nann 1 2\nann 1 eve 2\n", r"line 4: there is no folder of 'eve'"),
        ("1\nann 1 9\nann 1 bob 2\n", r"line 2: there is no picture 9 of 'ann'; .* holds 5, numbered 1-5"),
        ("1\nann 1 2\nann 0 bob 2\n", r"line 3: there is no picture 0 of 'ann'"),
        ("1\nann 1 1\nann 1 bob 2\n", r"line 2: is a picture and itself \(.*1\.png\)"),
        ("1\nann 1 2\nann 1 " + "x" * 300 + " 2\n", r"line 3: there is no folder of 'x{60}' in"),
        ("1\nann 1 2\nann 1 " + "9" * 5000 + "\n", r"line 3: found 'ann 1 9+'; allowed"),
        ("9" * 5000 + "\nann 1 2\n", r"begins with '9{60}'"),
        ("1\nann 1 2\nann/ 1 bob 2\n", r"line 3: there is no folder of 'ann/'"),
        ("1\nann 1 2\n. 1 bob 2\n", r"line 3: there is no folder of '\.'"),
        ("1\nann 1 2\nann 1 3\n", r"of its 2 pairs none is of two people"),
        (
            "2 1\nann 1 2\nbob 1 2\nann 1 bob 1\nann 2 bob 2\n",
            r"fold 1 has 2 pairs of one person and 0 of two",
        ),
    ],
)
def test_a_wrong_lfw_file_is_one_line(tmp_path: Path, faces: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        read_pairs(written(tmp_path, text), faces)
    assert "\n" not in str(error.value)


CSV = "first,second,same,fold,remark\nann/1.png,ann/2.png,1,b,\nann/1.png,bob/1.png,0,b,x\n"


def test_csv_file(tmp_path: Path, faces: Path) -> None:
    text = CSV + "\ncy/1.png,cy/2.png,true,a,\ncy/1.png,dee/1.png,False,a,\n"
    pairs = read_pairs(written(tmp_path, text, "pairs.csv"), faces)
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.folds is not None
    assert pairs.folds.tolist() == [0, 0, 1, 1]  # in the order in which they come
    assert pairs.people == ("ann", "bob", "cy", "dee")


def test_csv_pictures_without_folders_are_of_nobody_known(tmp_path: Path, faces: Path) -> None:
    text = "first,second,same\n1.png,2.png,1\n1.png,3.png,0\n"
    pairs = read_pairs(written(tmp_path, text, "pairs.csv"), faces / "ann")
    assert (pairs.people, pairs.unnamed) == ((), 3)
    assert pairs.folds is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path1,path2,same\n", r"has the columns path1, path2, same; needed: first, second, same"),
        (CSV + "cy/1.png,cy/2.png,1\n", r"line 4: found 3 cells; the first line has 5"),
        (CSV + "cy/1.png,cy/2.png,yes,a,\n", r"line 4: found same = 'yes'; allowed: 1"),
        (CSV + "\n\ncy/1.png,cy/9.png,1,a,\n", r"line 6: there is no picture 'cy/9\.png'"),
        (CSV + "cy/1.png,,1,a,\n", r"line 4: there is no picture ''"),
        (CSV + "cy/1.png,cy/2.png,1,,\n", r"line 4: the fold is missing"),
        (
            CSV + '"cy/1.png,cy/2.png,1,a,\n' + CSV,
            r"line 4: is no row of a CSV file \(unexpected end of data\)",
        ),
        (CSV + "x" * 300 + ",cy/2.png,1,a,\n", r"line 4: there is no picture 'x{80}'"),
        (CSV + "x" * 140_000 + ",cy/2.png,1,a,\n", r"line 4: is no row of a CSV file \(field larger"),
        (CSV + "cy/1.png,dee/1.png,1,a,\n", r"line 4: says .* one person, and they lie .* of 'cy' and 'dee'"),
        (CSV + "cy/1.png,cy/2.png,0,a,\n", r"line 4: says .* two people, and they lie .* of 'cy' and 'cy'"),
        (CSV + "cy/1.png,../faces/cy/1.png,1,a,\n", r"line 4: is a picture and itself"),
        (CSV + "cy/1.png,../other/1.png,0,a,\n", r"line 4: '\.\./other/1\.png' leads out of .*faces"),
        (CSV + "cy/1.png,.kept/1.png,0,a,\n", r"line 4: '\.kept' is no person's folder"),
    ],
)
def test_a_wrong_csv_file_is_one_line(tmp_path: Path, faces: Path, text: str, said: str) -> None:
    face_folder(tmp_path, ["other"], each=1)
    face_folder(faces, [".kept"], each=1)
    with pytest.raises(DataError, match=said):
        read_pairs(written(tmp_path, text, "pairs.csv"), faces)


@pytest.mark.parametrize(("pairs", "folds"), [(6000, 10), (23, 4), (10, 10), (11, 2)])
def test_folds_are_scikit_learns(pairs: int, folds: int) -> None:
    found = contiguous_folds(pairs, folds)
    for fold, (_, test) in enumerate(KFold(folds, shuffle=False).split(numpy.zeros(pairs))):
        assert (found == fold).nonzero()[0].tolist() == test.tolist()


def test_folds_asked_for_replace_the_files(tmp_path: Path, faces: Path) -> None:
    pairs = read_pairs(written(tmp_path, LFW), faces)
    assert folds_of(pairs, None).tolist() == [0, 0, 1, 1]
    assert folds_of(pairs, 2).tolist() == [0, 0, 1, 1]
    with pytest.raises(DataError, match=r"fold 1 of 4 holds 1 pairs, all of one person"):
        folds_of(pairs, 4)
    with pytest.raises(DataError, match=r"4 pairs make no 10 folds; ask for fewer"):
        folds_of(pairs, 10)
    one_fold = read_pairs(written(tmp_path, CSV, "pairs.csv"), faces)
    with pytest.raises(DataError, match=r"all pairs are in one fold"):
        folds_of(one_fold, None)
    with pytest.raises(ValueError, match=r"1 folds of 4 pairs"):
        contiguous_folds(4, 1)


def test_digest_tells_pairs_and_folds_apart_and_not_places(tmp_path: Path, faces: Path) -> None:
    pairs = read_pairs(written(tmp_path, LFW), faces)
    folds = folds_of(pairs, 2)
    before = pairs.digest(folds)
    moved = read_pairs(written(tmp_path, LFW, "moved.txt"), face_folder(tmp_path / "elsewhere"))
    other = read_pairs(written(tmp_path, LFW.replace("ann\t1\t2", "ann\t1\t3"), "other.txt"), faces)
    assert pairs.digest(folds) == moved.digest(folds)
    assert pairs.digest(folds) != other.digest(folds)
    assert pairs.digest(folds) != pairs.digest(1 - folds)
    assert pairs.summary(folds)["of_one_person"] == 2
    (faces / "ann").rename(faces / "zoe")
    renamed = read_pairs(written(tmp_path, LFW.replace("ann", "zoe"), "renamed.txt"), faces)
    assert renamed.digest(folds) == before
    shutil.copy(faces / "cy" / "5.png", faces / "zoe" / "1.png")
    assert renamed.digest(folds) != before  # other pixels


def test_a_tab_at_the_end_of_a_line(tmp_path: Path, faces: Path) -> None:
    trailing = read_pairs(written(tmp_path, LFW.replace("\n", "\t\n"), "trailing.txt"), faces)
    assert shown(trailing) == shown(read_pairs(written(tmp_path, LFW), faces))


def test_csv_people_are_the_first_folders_on_the_path(tmp_path: Path, faces: Path) -> None:
    for name in ("ann", "bob"):
        shutil.copytree(faces / name, faces / name / "day" / "d1")
    text = "first,second,same\nann/day/d1/1.png,ann/2.png,1\nann/../bob/day/d1/1.png,ann/day/d1/1.png,0\n"
    pairs = read_pairs(written(tmp_path, text, "pairs.csv"), faces)
    assert (pairs.people, pairs.unnamed) == (("ann", "bob"), 0)
    absolute = f"first,second,same\n{faces}/ann/1.png,ann/2.png,1\nann/1.png,bob/1.png,0\n"
    assert read_pairs(written(tmp_path, absolute, "absolute.csv"), faces).people == ("ann", "bob")


def test_one_picture_on_two_paths_is_one(tmp_path: Path, faces: Path) -> None:
    (faces / "ann" / "9.png").symlink_to(faces / "ann" / "1.png")
    text = "first,second,same\nann/1.png,ann/2.png,1\nann/9.png,bob/1.png,0\n"
    assert len(read_pairs(written(tmp_path, text, "pairs.csv"), faces).paths) == 3
    with pytest.raises(DataError, match=r"line 4: is a picture and itself"):
        read_pairs(written(tmp_path, text + "ann/1.png,ann/9.png,1\n", "pairs.csv"), faces)


def test_pairs_that_come_again_are_counted(tmp_path: Path, faces: Path) -> None:
    text = "2 1\nann 1 2\nann 1 bob 1\nann 2 1\nbob 1 ann 1\n"
    (note,) = read_pairs(written(tmp_path, text), faces).notes
    assert note.endswith("pairs.txt: 2 of 4 pairs stand there before, in either order; they count again")
    assert read_pairs(written(tmp_path, LFW), faces).notes == ()


def test_a_pair_told_in_two_ways(tmp_path: Path, faces: Path) -> None:
    text = "first,second,same\n1.png,2.png,1\n2.png,3.png,0\n2.png,1.png,0\n"
    with pytest.raises(
        DataError, match=r"line 4: .* show two people here, and one person in .*line 2; remove one"
    ):
        read_pairs(written(tmp_path, text, "pairs.csv"), faces / "ann")
