"""Omniglot's official one-shot runs."""

import zipfile
from pathlib import Path

import pytest
import torch
from omniglot_files import draw, zip_up

from kdcam.data.sources.omniglot import omniglot_runs
from kdcam.errors import DataError

SHARED = Path(__file__).parents[3] / "../shared/data/omniglot"


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "all_runs"
    for run in (1, 2):
        lines = []
        for number in (1, 2, 3):
            draw(folder / f"run0{run}/training/class0{number}.png", 20 * number)
            draw(folder / f"run0{run}/test/item0{number}.png", 20 * (number % 3 + 1))
            lines.append(f"run0{run}/test/item0{number}.png run0{run}/training/class0{number % 3 + 1}.png")
        (folder / f"run0{run}/class_labels.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_a_run_says_which_pictures_belong_together(runs, tmp_path):
    zipped = zip_up(runs / "run01", tmp_path / "one.zip")
    for place, count in ((runs, 2), (tmp_path, 2), (zipped, 1), (zip_up(runs, tmp_path / "all_runs.zip"), 2)):
        found = omniglot_runs(place)
        assert [run.name for run in found] == ["run01", "run02"][:count]
        first = found[0]
        assert first.training.targets.tolist() == [0, 1, 2]
        assert first.test.targets.tolist() == [1, 2, 0]
        training, test = first.training.images.pixels, first.test.images.pixels
        assert training.shape == (3, 1, 28, 28)
        assert torch.equal(test, training[first.test.targets])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("", r"item01\.png: .*class_labels\.txt does not name it"),
        ("run01/test/item01.png\n", r"line 1: found 'run01/test/item01\.png'; allowed: a test picture"),
        (
            "run01/test/item01.png run01/training/class09.png\n",
            r"says run01/training/class09\.png, which is not",
        ),
    ],
)
def test_labels_that_do_not_fit(runs, labels, message):
    (runs / "run01" / "class_labels.txt").write_text(labels)
    with pytest.raises(DataError, match=message):
        omniglot_runs(runs)


def test_missing_pieces_of_runs(runs, tmp_path):
    (runs / "run02" / "test" / "item03.png").unlink()
    with pytest.raises(DataError, match=r"names run02/test/item03\.png, which is not there"):
        omniglot_runs(runs)
    (runs / "run02" / "class_labels.txt").unlink()
    with pytest.raises(DataError, match=r"class_labels\.txt: is not there; fetch all_runs again"):
        omniglot_runs(runs)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no run01, run02"):
        omniglot_runs(tmp_path / "empty")


def test_runs_that_are_not_there_or_not_text(runs, tmp_path):
    with pytest.raises(
        DataError, match=r"^omniglot-runs: .*nowhere is not there; name Omniglot's all_runs\.zip"
    ):
        omniglot_runs(tmp_path / "nowhere")
    (runs / "run01" / "class_labels.txt").write_bytes(b"\xff\xfe run")
    with pytest.raises(DataError, match=r"class_labels\.txt: cannot be read as text \('utf-8' codec"):
        omniglot_runs(runs)


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"Omniglot is not in {SHARED}")
def test_the_official_runs():
    runs = omniglot_runs(SHARED / "all_runs.zip")
    assert [run.name for run in runs] == [f"run{number:02}" for number in range(1, 21)]
    for run in runs:
        assert sorted(run.test.targets.tolist()) == list(range(20))
        assert run.training.images.pixels.shape == (20, 1, 28, 28)
    with zipfile.ZipFile(SHARED / "all_runs.zip") as archive:
        lines = archive.read("run07/class_labels.txt").decode().split()[1::2]
    assert [f"run07/training/class{k + 1:02}.png" for k in runs[6].test.targets.tolist()] == lines
