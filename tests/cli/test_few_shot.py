import json
import re
from pathlib import Path

import pytest
from small_runs import SCENES, small_recipe

EPISODES = ("--ways", 3, "--queries", 3, "--episodes", 20)


@pytest.fixture(scope="module")
def split_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs on seven of ten digits."""
    import kdcam as library

    folder = tmp_path_factory.mktemp("runs")
    data = {**SCENES, "train_size": 150, "test_size": 40, "class_split": {"novel": 3}}
    keys = {"data": data, "loss": [{"name": "cross_entropy"}], "epochs": 1}
    one, other = (
        library.train(small_recipe(**keys, seed=seed), output=folder / f"base-{seed}").path for seed in (0, 1)
    )
    return one, other


def test_a_table_with_intervals(kdcam, split_runs: tuple[Path, Path]) -> None:
    found = kdcam("few-shot", split_runs[0], *EPISODES, "--seed", 3)
    assert found.code == 0, found.err
    assert "novel classes of digit-scenes: " in found.out
    assert "20 episodes, 3 queries a class, seed 3; accuracy with 95 % interval over episodes" in found.out
    assert len(re.findall(r"3-way [15]-shot \S+ .* \d+\.\d\d ± \d\.\d\d%", found.out)) == 10
    assert "difference" not in found.out


def test_several_runs_are_compared_with_the_first(kdcam, split_runs: tuple[Path, Path]) -> None:
    found = kdcam(
        "few-shot", *split_runs, *EPISODES, "--shots", 2, "--head", "prototype", "--head", "logistic"
    )
    assert found.code == 0, found.err
    rows = [line for line in found.out.splitlines() if "base-1" in line]
    assert len(rows) == 2
    assert all(re.search(r"± \d+\.\d\d% +[+-]\d+\.\d\d ± \d+\.\d\d%$", row) for row in rows)


def test_json_and_the_runs_file(kdcam, split_runs: tuple[Path, Path]) -> None:
    found = kdcam(
        "few-shot", split_runs[0], *EPISODES, "--shots", 1, "--head", "cosine-prototype", "--json", "-q"
    )
    assert found.code == 0
    assert found.err == ""
    (document,) = json.loads(found.out)
    assert document.pop("run") == str(split_runs[0])
    assert document == json.loads((split_runs[0] / "few-shot.json").read_text())
    assert list(document["headline"]) == ["3-way 1-shot cosine-prototype"]


def test_json_tells_the_difference_to_the_first_run(kdcam, split_runs: tuple[Path, Path]) -> None:
    found = kdcam("few-shot", *split_runs, *EPISODES, "--shots", 1, "--head", "prototype", "--json", "-q")
    first, second = json.loads(found.out)
    assert "difference" not in first
    assert second["difference"]["to"] == str(split_runs[0])
    (name,) = second["headline"]
    difference = second["difference"]["headline"][name]
    assert round(difference["mean"], 9) == round(
        second["headline"][name]["mean"] - first["headline"][name]["mean"], 9
    )
    assert difference["interval"] > 0


def test_a_folder_of_new_classes(kdcam, digits_run: Path, photos: Path) -> None:
    options = ("--root", photos, "--ways", 2, "--shots", 1, "--queries", 5, "--episodes", 10)
    found = kdcam("few-shot", digits_run, *options)
    assert found.code == 0, found.err
    assert "24 images of 2 classes" in found.out
    assert "2-way 1-shot baseline++" in found.out


def test_what_is_wrong_is_one_line(
    kdcam, digits_run: Path, split_runs: tuple[Path, Path], photos: Path
) -> None:
    (photos / "cat").rename(photos / "3")
    for arguments, said in (
        ((digits_run,), "there are none that it has not seen"),
        ((split_runs[0], "--ways", 5), "5 ways need 5 classes"),
        ((split_runs[0], "--ways", 2, "--shots", 300), "take fewer shots"),
        ((split_runs[0], "--shots", "1,1"), "few-shot.shots (--shots): 1 stands there more than once"),
        ((split_runs[0], "--head", "svm"), "few-shot.heads[0] (--head): found 'svm'; allowed: 'prototype'"),
        ((split_runs[0], "--classes", "validation"), "has no validation classes"),
        ((digits_run, "--root", photos), "was trained on '3'"),
        ((digits_run, "--omniglot-runs", photos), "holds no run01"),
        ((digits_run, "--root", "nowhere"), "nowhere is not there"),
        ((digits_run, "--root", photos, "--classes", "novel"), "classes (--classes) does nothing with root"),
        (
            (digits_run / "nowhere",),
            "so it is no run folder; name one that `kdcam train` made, or, for any network",
        ),
        ((digits_run, "--omniglot-runs", "nowhere"), "omniglot-runs: nowhere is not there"),
    ):
        found = kdcam("few-shot", *arguments, "-q")
        assert found.code == 1, found.out
        assert said in found.err
        assert found.out == ""
        assert len(found.err.splitlines()) == 1
    assert kdcam("few-shot", digits_run, "--shots", "one").code == 2
