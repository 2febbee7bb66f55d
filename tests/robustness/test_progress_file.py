import json
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel

from kdcam.errors import CheckpointError
from kdcam.robustness.progress_file import (
    PENDING,
    PROGRESS_FILE,
    STANDS,
    TENSORS_FILE,
    Work,
    combined_digest,
)


class Section(BaseModel):
    numbers: tuple[float, ...]


def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    work = Work(tmp_path, key="one")
    assert not work.resumed
    work.marks("pgd", 3)[1] = STANDS
    work.counts("pgd")["forwards"] = 7
    work.rows("logits", (2, 2))[0] = torch.tensor([0.1, 1e-30])
    work.section("checks", Section, lambda: Section(numbers=(0.1, 2.0)))
    work.save()
    again = Work(tmp_path, key="one")
    assert again.resumed
    assert again.marks("pgd", 3).tolist() == [PENDING, STANDS, PENDING]
    assert again.counts("pgd") == {"forwards": 7}
    assert torch.equal(again.rows("logits", (2, 2)), torch.tensor([[0.1, 1e-30], [0, 0]]))

    def never() -> Section:
        raise AssertionError

    assert again.section("checks", Section, never) == Section(numbers=(0.1, 2.0))
    assert json.loads((tmp_path / PROGRESS_FILE).read_text())["marks"] == {"pgd": ".1."}


def test_another_key_or_a_fresh_start_takes_nothing_over(tmp_path: Path) -> None:
    work = Work(tmp_path, key="one")
    work.marks("pgd", 2).fill_(STANDS)
    work.save()
    for other in (Work(tmp_path, key="two"), Work(tmp_path, key="one", fresh=True)):
        assert not other.resumed
        assert other.marks("pgd", 2).tolist() == [PENDING, PENDING]


def test_tensors_of_another_key_are_not_taken(tmp_path: Path) -> None:
    old = Work(tmp_path, key="one")
    old.rows("logits", (1, 2)).fill_(5)
    old.save()
    new = Work(tmp_path, key="two")
    new.marks("pgd", 1)
    new.save()
    assert Work(tmp_path, key="two").rows("logits", (1, 2)).tolist() == [[0, 0]]


def test_the_files_go_when_the_result_is_written(tmp_path: Path) -> None:
    work = Work(tmp_path, key="one")
    work.rows("logits", (1, 2))
    work.save()
    assert {path.name for path in tmp_path.iterdir()} == {PROGRESS_FILE, TENSORS_FILE}
    work.finish()
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    work = Work()
    work.marks("pgd", 1)
    work.save()
    work.finish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changed", [{"marks": {"pgd": 5}}, {"marks": {"pgd": "é"}}, {"counts": []}])
def test_a_file_of_another_form_is_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    document = {"key": "one", "marks": {}, "counts": {}, "sections": {}, **changed}
    (tmp_path / PROGRESS_FILE).write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"robustness-progress\.json: not as kdcam writes it.*remove"):
        Work(tmp_path, key="one")


def test_a_digest_knows_values_and_not_their_order() -> None:
    assert combined_digest({"a": 1, "b": (2.0, 3)}) == combined_digest({"b": [2.0, 3], "a": 1})
    assert combined_digest({"a": 1}) != combined_digest({"a": 2})
