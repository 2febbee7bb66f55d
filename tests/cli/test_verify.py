import json
from pathlib import Path

import pytest
from face_folders import face_folder, random_network


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return face_folder(tmp_path / "faces", ["ann", "bob", "cy"])


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return random_network(tmp_path / "network")


@pytest.fixture
def pairs(kdcam, faces: Path, tmp_path: Path) -> Path:
    found = kdcam("make-pairs", faces, "-o", tmp_path / "pairs.txt", "--folds", "3")
    assert found.code == 0, found.err
    assert found.out == f"{tmp_path / 'pairs.txt'}: 3 folds of 2 x 10 pairs, of 15 pictures of 3 people\n"
    return tmp_path / "pairs.txt"


def test_a_table_and_a_picture(kdcam, faces: Path, network: Path, pairs: Path) -> None:
    found = kdcam("verify", network, network, "--pairs", pairs, "--root", faces, "--figures", "figures")
    assert found.code == 0, found.err
    assert "30 pairs of one person and 30 of two; 15 pictures of 3 people; 3 folds" in found.out
    assert "TAR at FAR 0.01" in found.out
    assert found.out.count("±") == 7  # one in the title, three a run
    assert "FAR 0.001 is less than one of the 20 pairs of two" in found.out
    assert "interpolated between none and one" in " ".join(found.out.split())
    fine = ("--thresholds", "midpoints", "--far", "0.001")
    found_fine = kdcam("verify", network, "--pairs", pairs, "--root", faces, *fine)
    assert "it lets none pass" in " ".join(found_fine.out.split())
    assert Path("figures/roc.png").is_file()
    assert "roc.png: ROC curves of all pairs" in found.err


def test_options_reach_the_library(kdcam, faces: Path, network: Path, pairs: Path) -> None:
    options = ["--folds", "2", "--no-flip", "--far", "0.1", "--thresholds", "midpoints", "--quiet", "--json"]
    found = kdcam("verify", network, "--pairs", pairs, "--root", faces, *options)
    assert found.code == 0, found.err
    assert found.err == ""
    (document,) = json.loads(found.out)
    assert document["run"] == str(network)
    assert document["settings"] == {
        "folds": 2,
        "flip": False,
        "thresholds": "midpoints",
        "far": [0.1],
        "allow_seen": False,
    }
    assert document["weights"] == "selected"
    assert set(document["headline"]) == {"accuracy", "tar at far 0.1", "auc", "eer"}
    assert len(document["folds"]) == 2


def test_what_is_wrong_is_one_line(kdcam, faces: Path, network: Path, pairs: Path, tmp_path: Path) -> None:
    trained = random_network(tmp_path / "trained", label_names=["bob", "eve"])
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("1\nann 1 2\nann 1 eve 2\n")
    for run, file, said in (
        (trained, pairs, "was trained on 'bob', of 3 people in"),
        (network, wrong, "wrong.txt, line 3: there is no folder of 'eve'"),
        (tmp_path / "gone", pairs, "gone"),
    ):
        found = kdcam("verify", run, "--pairs", file, "--root", faces)
        assert found.code == 1
        assert said in found.err
        assert found.out == ""
        assert len(found.err.splitlines()) == 1
    assert kdcam("verify", trained, "--pairs", pairs, "--root", faces, "--allow-seen").code == 0
    assert kdcam("verify", network, "--pairs", pairs, "--root", faces, "--far", "few").code == 2
    assert kdcam("verify", network, "--pairs", pairs).code == 2
    assert kdcam("verify", network, "--pairs", pairs, "--root", faces, "--far", "2").code == 1
    far = kdcam("verify", network, "--pairs", pairs, "--root", faces, "--far", "2")
    assert "verify.far[0] (--far): found 2.0; must be less than 1" in far.err


def test_pairs_of_people_that_a_run_has_not_seen(kdcam, faces: Path, tmp_path: Path) -> None:
    trained = random_network(tmp_path / "trained", label_names=["bob", "eve"])
    found = kdcam("make-pairs", faces, "--not-in", trained, "--folds", "2", "--per-fold", "3", "--json")
    assert found.code == 0, found.err
    document = json.loads(found.out)
    assert document["people"] == ["ann", "cy"]
    assert (document["folds"], document["per_fold"], document["file"]) == (2, 3, "pairs.txt")
    assert kdcam("verify", trained, "--pairs", "pairs.txt", "--root", faces).code == 0
    similar = random_network(tmp_path / "similar", label_names=["Bob", "eve"])
    found = kdcam("make-pairs", faces, "--not-in", similar, "--folds", "2")
    assert "1 people are left out since a class is called nearly so: 'bob' ('Bob')" in found.err
    assert found.out.endswith("of 10 pictures of 2 people\n")
    found = kdcam("make-pairs", faces, "--people", "ann,bob", "--seed", "1", "--per-fold", "9")
    assert found.code == 1
    assert "too few for 10 folds of 9" in found.err
