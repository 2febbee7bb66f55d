import json
import shutil
from collections import Counter
from itertools import combinations, islice
from pathlib import Path

import pytest
import torch
from face_folders import face_folder, random_network

from kdcam.data.verification_pairs import Pairs, read_pairs
from kdcam.errors import CheckpointError, DataError
from kdcam.evaluation.verification.pair_drawing import (
    genuine_pairs,
    impostor_pairs,
    in_random_order,
    make_pairs,
    possible_pairs,
)

NUMBERS = {"a": (1, 2, 5), "b": (7,), "c": (1, 2), "d": (3, 4, 8, 9)}
PICTURES = [(name, number) for name, own in NUMBERS.items() for number in own]
ALL = list(combinations(PICTURES, 2))
OF_TWO = {pair for pair in ALL if pair[0][0] != pair[1][0]}


def test_all_that_there_are() -> None:
    genuine, others = possible_pairs([3, 1, 2, 4])
    assert (genuine, others) == (len(ALL) - len(OF_TWO), len(OF_TWO))
    found = genuine_pairs(NUMBERS, genuine, seed=0)
    assert len(found) == genuine
    assert set(found) == set(ALL) - OF_TWO
    assert len(impostor_pairs(NUMBERS, others, seed=0)) == others
    for wanted in (3, others // 2, others - 1, others):
        some = impostor_pairs(NUMBERS, wanted, seed=wanted)
        assert len(set(some)) == len(some) == wanted
        assert OF_TWO.issuperset(some)


def test_pairs_of_one_person_come_evenly_in_any_part() -> None:
    numbers = {"many": tuple(range(40)), **{f"p{index}": (1, 2) for index in range(50)}}
    found = genuine_pairs(numbers, 300, seed=0)
    halves = [Counter(pair[0][0] for pair in part)["many"] for part in (found[:150], found[150:])]
    assert sum(halves) == 250
    assert min(halves) > 110  # by rounds the first half would hold 100


def test_repeats_that_prevail_end() -> None:
    # Two of 22 people make 6 in 10 of the pairs, and one in 231 draws of two people.
    numbers = {"x": tuple(range(75)), "y": tuple(range(75)), **{f"p{index}": (1,) for index in range(20)}}
    total = possible_pairs([len(own) for own in numbers.values()])[1]
    wanted = 4000
    assert 2 * wanted < total
    assert len(set(impostor_pairs(numbers, wanted, seed=0))) == wanted


def test_people_of_many_pictures_do_not_outweigh_the_others() -> None:
    numbers = {"many": tuple(range(1000)), **{f"p{index}": tuple(range(5)) for index in range(20)}}
    found = impostor_pairs(numbers, 200, seed=0)
    assert sum("many" in (one[0], other[0]) for one, other in found) < 40  # of pictures alike: nearly all


def test_a_random_order_is_one_and_lists_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    orders = [tuple(in_random_order(4, generator)) for _ in range(2400)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    counts = Counter(orders)
    assert len(counts) == 24
    assert 60 < min(counts.values()) <= max(counts.values()) < 145  # 100 each, sd 10
    few = list(islice(in_random_order(10**15, generator), 5))
    assert len(set(few)) == 5
    assert max(few) < 10**15


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return face_folder(tmp_path / "faces", ["p1", "p2", "p3", "p10"], each=6)


def unordered(pairs: Pairs) -> list[frozenset[int]]:
    return [frozenset(both) for both in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)]


def test_reads_back_as_drawn(tmp_path: Path, faces: Path) -> None:
    found = make_pairs(faces, tmp_path / "new" / "pairs.txt", folds=5, per_fold=4, seed=3)
    assert (found.folds, found.per_fold, found.people, found.pictures) == (
        5,
        4,
        ("p1", "p2", "p3", "p10"),
        24,
    )
    pairs = read_pairs(found.file, faces)
    assert pairs.folds is not None
    assert pairs.folds.tolist() == [fold for fold in range(5) for _ in range(8)]
    assert pairs.same.tolist() == ([True] * 4 + [False] * 4) * 5
    names = [path.parent.name for path in pairs.paths]
    for one, other, same in zip(pairs.first, pairs.second, pairs.same, strict=True):
        assert (names[one] == names[other]) == same
    assert len(set(unordered(pairs))) == len(pairs)


def test_people_are_drawn_in_rounds(tmp_path: Path, faces: Path) -> None:
    for number in range(7, 40):
        (faces / "p1" / f"{number}.png").touch()
    pairs = read_pairs(make_pairs(faces, tmp_path / "pairs.txt", folds=4, per_fold=5).file, faces)
    names = [path.parent.name for path in pairs.paths]
    assert Counter(names[one] for one in pairs.first[pairs.same]) == {"p1": 5, "p2": 5, "p3": 5, "p10": 5}


def test_as_many_as_can_be(tmp_path: Path, faces: Path) -> None:
    found = make_pairs(faces, tmp_path / "pairs.txt")
    assert found.per_fold == 6  # 4 people x 15 pairs in 10 folds
    assert len(set(unordered(read_pairs(found.file, faces)))) == 120


def test_all_pairs_of_two_once(tmp_path: Path) -> None:
    faces = face_folder(tmp_path / "faces", ["a", "b"], each=4)
    pairs = read_pairs(make_pairs(faces, tmp_path / "pairs.txt", folds=3, per_fold=4).file, faces)
    assert len(set(unordered(pairs))) == 24  # of 12 of one person and 16 of two


def test_the_seed_decides(tmp_path: Path, faces: Path) -> None:
    texts = [
        make_pairs(faces, tmp_path / f"{index}.txt", folds=3, seed=seed).file.read_text()
        for index, seed in enumerate((0, 0, 1))
    ]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_who_takes_part(tmp_path: Path, faces: Path) -> None:
    network = random_network(tmp_path / "network", label_names=["p2", "p3"])
    assert make_pairs(faces, tmp_path / "a.txt", not_in=[network]).people == ("p1", "p10")
    assert make_pairs(faces, tmp_path / "b.txt", people=["p3", "p1"]).people == ("p1", "p3")
    tuned = random_network(tmp_path / "tuned", label_names=["x", "y"])
    (tuned / "recipe.json").write_text(json.dumps({"recipe": {"init": {"checkpoint": str(network)}}}))
    assert make_pairs(faces, tmp_path / "d.txt", not_in=[tuned]).people == ("p1", "p10")
    with pytest.raises(DataError, match=r"1 people are left of 4, 2 left out as a run's classes"):
        make_pairs(faces, tmp_path / "c.txt", people=["p1", "p2", "p3"], not_in=[network])
    with pytest.raises(DataError, match=r"people: there is no folder of 'p11' in .*did you mean"):
        make_pairs(faces, tmp_path / "c.txt", people=["p11"])
    with pytest.raises(CheckpointError, match=r"nowhere"):
        make_pairs(faces, tmp_path / "c.txt", not_in=[tmp_path / "nowhere"])
    assert not (tmp_path / "c.txt").exists()


def test_too_few_pictures(tmp_path: Path, faces: Path) -> None:
    with pytest.raises(
        DataError, match=r"make 60 pairs of one person and 216 of two, too few for 10 folds of 7"
    ):
        make_pairs(faces, tmp_path / "pairs.txt", per_fold=7)
    single = face_folder(tmp_path / "single", each=1)
    with pytest.raises(
        DataError, match=r"make 0 pairs of one person and 6 of two, too few for 10 folds of 1"
    ):
        make_pairs(single, tmp_path / "pairs.txt")
    with pytest.raises(ValueError, match=r"1 folds"):
        make_pairs(faces, tmp_path / "pairs.txt", folds=1)


@pytest.mark.parametrize("name", ["a\tb", "a\nb", " ann", "ann\N{NO-BREAK SPACE}", "an\x85n", "an\udcffn"])
def test_a_name_that_the_format_cannot_hold(tmp_path: Path, name: str) -> None:
    faces = face_folder(tmp_path / "faces", ["c"])
    shutil.copytree(faces / "c", faces / name)
    with pytest.raises(DataError, match=r"has a tab, a line break, a blank at an end") as error:
        make_pairs(faces, tmp_path / "pairs.txt")
    assert repr(name) in str(error.value)
    assert not (tmp_path / "pairs.txt").exists()


@pytest.mark.parametrize("name", ["x_same.txt", "diff.txt", "pairs.CSV", "faces"])
def test_a_file_that_would_be_read_in_another_way(tmp_path: Path, faces: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"output: .*{name} would be read as a f.*call it pairs\.txt"):
        make_pairs(faces, tmp_path / name)


def test_folds_hold_the_same_mix_of_people(tmp_path: Path) -> None:
    # In rounds the twenty people of one pair each come first; then all pairs are the last one's.
    faces = touched(tmp_path / "faces", {**{f"p{number}": 2 for number in range(20)}, "big": 30})
    pairs = read_pairs(make_pairs(faces, tmp_path / "pairs.txt", folds=5, per_fold=20).file, faces)
    assert pairs.folds is not None
    names = [path.parent.name for path in pairs.paths]
    for fold in range(5):
        chosen = pairs.first[(pairs.folds == fold) & pairs.same]
        assert 1 <= sum(names[one] != "big" for one in chosen) <= 9
    assert Counter(names[one] for one in pairs.first[pairs.same])["big"] == 80


def test_people_without_names_cannot_be_left_out(tmp_path: Path, faces: Path) -> None:
    network = random_network(tmp_path / "network")
    config = json.loads((network / "config.json").read_text())
    for table in (config, config["kdcam"]):
        table.pop("label_names", None)
    (network / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        DataError, match=r"network: its classes have no names, so that nobody can be left out"
    ):
        make_pairs(faces, tmp_path / "pairs.txt", not_in=[network])


def test_people_of_what_a_run_was_started_from_are_left_out(tmp_path: Path, faces: Path) -> None:
    first = random_network(tmp_path / "first", label_names=["p1", "x"])
    second = random_network(tmp_path / "second", label_names=["p2", "y"])
    start = {"recipe": {"init": {"checkpoint": str(first)}}}
    (second / "recipe.json").write_text(json.dumps(start))
    found = make_pairs(faces, tmp_path / "pairs.txt", not_in=[second])
    assert found.people == ("p3", "p10")
    assert found.notes == ()
    (second / "recipe.json").write_text(json.dumps({"recipe": {"init": {"checkpoint": "gone"}}}))
    found = make_pairs(faces, tmp_path / "pairs.txt", not_in=[second])
    assert found.people == ("p1", "p3", "p10")
    assert "learned from gone" in found.notes[0]


def test_people_called_nearly_as_a_class_are_left_out_and_told(tmp_path: Path) -> None:
    faces = face_folder(tmp_path / "faces", ["Ann Lee", "bob", "cy", "dee"])
    network = random_network(tmp_path / "network", label_names=["ann_lee", "Bob"])
    found = make_pairs(faces, tmp_path / "pairs.txt", not_in=[network], folds=2)
    assert found.people == ("cy", "dee")
    assert "2 people are left out since a class is called nearly so: 'Ann Lee' ('ann_lee')" in found.notes[0]


def touched(folder: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(1, count + 1):
            (folder / name / f"{number}.png").write_text(f"{name} {number}")
    return folder
