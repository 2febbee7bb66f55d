import json
import shutil
from pathlib import Path

import pytest
from face_folders import face_folder, random_network
from small_runs import Watcher

from kdcam.data.verification_pairs import Pairs, read_pairs
from kdcam.errors import DataError
from kdcam.evaluation.verification.verification_evaluation import seen_people


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    faces = face_folder(tmp_path / "faces", ["ann", "bob"])
    file = tmp_path / "pairs.txt"
    file.write_text("1\nann 1 2\nann 1 bob 1\n")
    return read_pairs(file, faces)


def started_from(network: Path, **tables: object) -> Path:
    (network / "recipe.json").write_text(json.dumps({"recipe": tables}))
    return network


def test_nobody(tmp_path: Path, pairs: Pairs) -> None:
    watcher = Watcher()
    assert seen_people(random_network(tmp_path / "run"), pairs, allowed=False, progress=watcher) == ()
    assert watcher.warnings == watcher.messages == []


@pytest.mark.parametrize("table", ["init", "teacher"])
def test_people_of_what_it_was_started_from_or_taught_by(tmp_path: Path, pairs: Pairs, table: str) -> None:
    first = random_network(tmp_path / "first", label_names=["ann", "x"])
    second = started_from(random_network(tmp_path / "second"), **{table: {"checkpoint": str(first)}})
    third = random_network(tmp_path / "third", label_names=["bob", "y"])
    started_from(third, init={"checkpoint": str(second)})
    with pytest.raises(
        DataError, match=r"second learned from .*first, which was trained on 'ann', of 2 people"
    ):
        seen_people(second, pairs, allowed=False, progress=Watcher())
    assert seen_people(third, pairs, allowed=True, progress=Watcher()) == ("ann", "bob")


def test_a_start_that_is_not_known_is_warned_of(tmp_path: Path, pairs: Pairs) -> None:
    run = started_from(random_network(tmp_path / "run"), init={"checkpoint": str(tmp_path / "gone")})
    watcher = Watcher()
    assert seen_people(run, pairs, allowed=False, progress=watcher) == ()
    assert "learned from" in watcher.warnings[0]
    assert "gone: whose classes are not known" in watcher.warnings[0]


def test_people_called_nearly_the_same_are_warned_of(tmp_path: Path, pairs: Pairs) -> None:
    run = random_network(tmp_path / "run", label_names=["Ann", "bob_"])
    watcher = Watcher()
    assert seen_people(run, pairs, allowed=False, progress=watcher) == ()
    assert "2 people of" in watcher.warnings[0]
    assert (
        "nearly as its classes are: 'ann' (its class 'Ann'), 'bob' (its class 'bob_')" in watcher.warnings[0]
    )


def test_people_in_nested_folders(tmp_path: Path) -> None:
    faces = tmp_path / "nested"
    for person in face_folder(tmp_path / "faces", ["ann", "bob"]).iterdir():
        shutil.copytree(person, faces / person.name / "day1")
    file = tmp_path / "pairs.csv"
    file.write_text("first,second,same\nann/day1/1.png,ann/day1/2.png,1\nann/day1/1.png,bob/day1/2.png,0\n")
    run = random_network(tmp_path / "run", label_names=["ann", "bob"])
    with pytest.raises(DataError, match=r"was trained on 'ann', 'bob', of 2 people"):
        seen_people(run, read_pairs(file, faces), allowed=False, progress=Watcher())
