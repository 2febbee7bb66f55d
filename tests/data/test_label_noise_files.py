"""CSV files of label noise: what they say, and each way in which they can be wrong."""

import gzip

import pytest
import torch

from kdcam.data.label_noise import TrainingImages, check_labels_file, read_labels, read_matrix
from kdcam.errors import DataError

NAMES = ("cat", "dog", "owl")
TARGETS = torch.tensor([0, 1, 2])
# Of five images two were held out: 1 and 3.
BY_INDEX = TrainingImages(torch.tensor([0, 2, 4]), 5, None, None)


@pytest.fixture
def pictures(tmp_path):
    paths = tuple(tmp_path / "photos" / name for name in ("cat/a.png", "dog/b.png", "owl/c.png"))
    for path in (*paths, tmp_path / "photos" / "held" / "out.png"):
        path.parent.mkdir(parents=True)
        path.touch()
    return TrainingImages(torch.tensor([0, 1, 3]), 4, tmp_path / "photos", paths)


def written(folder, text, name="labels.csv"):
    file = folder / name
    file.write_text(text)
    return file


def labels(file, images=BY_INDEX, column="worse"):
    return read_labels(file, column, images=images, targets=TARGETS, label_names=NAMES).tolist()


def test_labels_by_index_in_any_order_with_held_out_images(tmp_path):
    file = written(tmp_path, "index,worse\n4,cat\n1,owl\n0,dog\n\n2,owl\n")
    assert labels(file) == [1, 2, 0]


def test_labels_as_indices_of_classes(tmp_path):
    assert labels(written(tmp_path, "worse,index\n2,0\n1,2\n0,4\n")) == [2, 1, 0]


def test_names_that_are_numbers_count_as_names(tmp_path):
    file = written(tmp_path, "index,worse\n0,1\n2,2\n4,1\n")
    found = read_labels(
        file, "worse", images=BY_INDEX, targets=TARGETS - TARGETS, label_names=("1", "2", "3")
    )
    assert found.tolist() == [0, 1, 0]


def test_labels_by_path_with_pictures_of_other_parts(tmp_path, pictures):
    file = written(
        tmp_path, "path,worse\n./dog/b.png,cat\nheld/out.png,cat\nowl/c.png,owl\ncat/../cat/a.png,dog\n"
    )
    assert labels(file, pictures) == [1, 0, 2]


def test_a_clean_column_that_agrees_and_a_compressed_file(tmp_path, pictures):
    file = tmp_path / "labels.csv.gz"
    file.write_bytes(
        gzip.compress(b"index,path,clean,worse\n9,cat/a.png,0,1\n9,dog/b.png,1,1\n9,owl/c.png,2,0\n", mtime=0)
    )
    assert labels(file, pictures) == [1, 1, 0]
    assert labels(file, pictures, column="clean") == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"line 1: found the columns none; needed: data\.noise\.column = 'worse', and index or path"),
        ("index,worst\n0,cat\n", r"columns 'index', 'worst'; did you mean 'worst'\?; needed"),
        ("image,worse\n0,cat\n", r"columns 'image', 'worse'.*and index or path"),
        ("index,worse,worse\n0,cat,cat\n", r"line 1: has the column 'worse' more than once"),
        ("index,worse\n0,cat\n2\n", r"line 3: has 1 cells where the first line has 2"),
        ("index,worse\n0,cat\n5,cat\n", r"line 3: found index '5'; allowed: 0 to 4"),
        ("index,worse\n-1,cat\n", r"line 2: found index '-1'"),
        ("index,worse\nfirst,cat\n", r"line 2: found index 'first'"),
        ("index,worse\n0,cat\n00,dog\n", r"line 3: names image '0' again, after .*line 2"),
        ("index,worse\n0,cat\n", r"has no line for 2 of 3 training images, the first being '2'"),
        ("index,worse\n", r"has no line for 3 of 3 training images"),
        ("index,worse\n0,cat\n2,cta\n4,owl\n", r"line 3: found 'cta' .*did you mean 'cat'\?; allowed: names"),
        ("index,worse\n0,0\n2,3\n4,1\n", r"line 3: found '3' .*indices from 0 to 2"),
        ("index,worse\n0,0\n2,-1\n4,1\n", r"line 3: found '-1' in the column 'worse'"),
        ("index,worse\n0,0\n2,1.0\n4,1\n", r"line 3: found '1\.0' in the column 'worse'"),
        ("index,worse\n0,0\n2,\n4,1\n", r"line 3: found '' in the column 'worse'"),
        ("index,worse\n0,0\n2,cat\n4,1\n", r"line 3: found 'cat' in the column 'worse'"),
        (
            "index,clean,worse\n0,0,1\n2,2,1\n4,1,1\n",
            r"line 3: says that the image's clean label is 'owl', in the data it is 'dog'; .*another order",
        ),
        ('index,worse\n0,"cat\n', r"is no CSV"),
        (
            "path,worse\na.png,cat\n",
            r"has the column 'path', but images of this data have no path; add .*'index'",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, reason):
    with pytest.raises(DataError, match=reason):
        labels(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("index,worse\n0,cat\n", r"column 'index', but pictures of a folder are known by their path"),
        ("path,worse\ncat/z.png,cat\n", r"line 2: there is no picture 'cat/z\.png'; name pictures from"),
        ("path,worse\ncat,cat\n", r"line 2: there is no picture 'cat'"),
        (f"path,worse\n{'x' * 5000},cat\n", r"line 2: there is no picture 'xxx"),
        ("path,worse\ncat/a.png,cat\n", r"no line for 2 of 3 training images, the first being 'dog/b\.png'"),
        ("path,worse\ncat/a.png,cat\ncat//a.png,dog\n", r"line 3: names image 'cat/a\.png' again"),
    ],
)
def test_what_is_wrong_with_paths(tmp_path, pictures, text, reason):
    with pytest.raises(DataError, match=reason):
        labels(written(tmp_path, text), pictures)


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        (
            None,
            "labels.csv",
            r"data\.noise\.file: .*labels\.csv: cannot be read \(No such file",
        ),
        (b"index,worse\n0,c\xe4t\n", "labels.csv", r"is not written in UTF-8"),
        (b"index,worse\n0,cat\n", "labels.csv.gz", r"cannot be read \(Not a gzipped file"),
        (
            gzip.compress(b"index,worse\n" * 99, mtime=0)[:-9],
            "labels.csv.gz",
            r"cannot be read \(Compressed file ended",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, name, reason):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        check_labels_file(file, "worse")


def test_the_early_check_reads_the_header(tmp_path):
    check_labels_file(written(tmp_path, "index,worse\n0,nothing\n"), "worse")
    with pytest.raises(DataError, match=r"needed: data\.noise\.column = 'aggre'"):
        check_labels_file(written(tmp_path, "index,worse\n"), "aggre")


def test_a_matrix(tmp_path):
    file = written(tmp_path, "0.9, 0.1,0\n0,1,0\n\n0.25,0.25,0.5\n")
    expected = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]], dtype=torch.float64)
    assert torch.equal(read_matrix(file, 3), expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"holds 0 lines of none numbers, and the data has 2 classes; write 2 lines of 2"),
        ("1,0\n", r"holds 1 lines of 2 numbers"),
        ("1,0\n0,1,0\n", r"holds 2 lines of 2, 3 numbers"),
        ("a,b\n1,0\n0,1\n", r"line 1: found 'a'; must be a probability"),
        ("1,0\n0,nan\n", r"line 2: found 'nan'"),
        ("1,0\n-0.5,1.5\n", r"line 2: found '-0\.5'; must be a probability, 0 to 1"),
        (
            "1,0\n0.5,0.4\n",
            r"line 2: the probabilities sum to 0\.9; each line \(a true class\) must sum to 1$",
        ),
        ("0.9,0.4\n0.1,0.6\n", r"line 1: .*sum to 1\.3.*; the columns do, so write columns as lines"),
    ],
)
def test_matrices_that_are_none(tmp_path, text, reason):
    with pytest.raises(DataError, match=reason):
        read_matrix(written(tmp_path, text), 2)
