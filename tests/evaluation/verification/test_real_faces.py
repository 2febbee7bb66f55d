"""ORL and LFWcrop beside the checkout, where they are: pairs read and told apart."""

import tarfile
from pathlib import Path

import pytest
from face_folders import random_network

from kdcam.data.verification_pairs import folds_of, read_pairs
from kdcam.evaluation.verification.pair_drawing import make_pairs
from kdcam.evaluation.verification.verification_evaluation import verify

SHARED = Path(__file__).parents[3] / "../shared/data"

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data sets are not in {SHARED}"),
]


def test_orl_people_in_pairs(tmp_path: Path) -> None:
    with tarfile.open(SHARED / "orl_faces.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    faces = tmp_path / "orl_faces"
    people = [f"s{number}" for number in range(31, 41)]
    drawn = make_pairs(faces, tmp_path / "pairs.txt", people=people)
    assert (drawn.folds, drawn.per_fold, drawn.pictures) == (10, 45, 100)
    pairs = read_pairs(drawn.file, faces)
    assert pairs.people == tuple(sorted(people))
    assert len(pairs) == 900
    network = random_network(tmp_path / "network")
    (report,) = verify(network, drawn.file, faces)
    assert 0.55 < report.scores.auc < 1  # pictures of one person are alike even to random weights


def test_lfwcrop_lists(tmp_path: Path) -> None:
    with tarfile.open(SHARED / "lfwcrop64-subset.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    pairs = read_pairs(tmp_path / "lfwcrop64" / "lists", tmp_path / "lfwcrop64" / "faces")
    assert len(pairs) == 2400
    folds = folds_of(pairs, None)
    assert [int(pairs.same[folds == fold].sum()) for fold in range(4)] == [300] * 4
    assert {path.suffix for path in pairs.paths} == {".jpg"}
    assert pairs.unnamed == 0
