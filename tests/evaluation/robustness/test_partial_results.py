import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel
from tensor_batches import TensorBatches

from kdcam.errors import CheckpointError, Interrupted
from kdcam.evaluation.robustness.corruption_report import corruption_report
from kdcam.evaluation.robustness.evaluated_images import collect_logits
from kdcam.evaluation.robustness.partial_results import (
    PENDING,
    STANDS,
    PartialResults,
    combined_digest,
    remove_orphaned_tensors,
    stop_with_results_kept,
)
from kdcam.runtime.progress import Silent

ONE = "robustness-progress-one.json"


class Section(BaseModel):
    numbers: tuple[float, ...]


def test_what_was_saved_is_there_again(tmp_path: Path) -> None:
    partial = PartialResults(tmp_path, key="one")
    assert not partial.resumed
    partial.marks("pgd", 3)[1] = STANDS
    partial.counts("pgd")["forwards"] = 7
    partial.rows("logits", (2, 2))[0] = torch.tensor([0.1, 1e-30])
    partial.section("checks", Section, lambda: Section(numbers=(0.1, 2.0)))
    partial.save()
    again = PartialResults(tmp_path, key="one")
    assert again.resumed
    assert again.marks("pgd", 3).tolist() == [PENDING, STANDS, PENDING]
    assert again.counts("pgd") == {"forwards": 7}
    assert torch.equal(again.rows("logits", (2, 2)), torch.tensor([[0.1, 1e-30], [0, 0]]))

    def never() -> Section:
        raise AssertionError

    assert again.section("checks", Section, never) == Section(numbers=(0.1, 2.0))
    assert json.loads((tmp_path / ONE).read_text())["marks"] == {"pgd": ".1."}


def test_another_key_or_a_fresh_start_takes_nothing_over_and_destroys_nothing(tmp_path: Path) -> None:
    partial = PartialResults(tmp_path, key="one")
    partial.marks("pgd", 2).fill_(STANDS)
    partial.save()
    other, fresh = PartialResults(tmp_path, key="two"), PartialResults(tmp_path, key="one", fresh=True)
    for new in (other, fresh):
        assert not new.resumed
        assert new.marks("pgd", 2).tolist() == [PENDING, PENDING]
    other.save()
    other.finish()
    assert PartialResults(tmp_path, key="one").marks("pgd", 2).tolist() == [STANDS, STANDS]


def with_rows(folder: Path) -> PartialResults:
    partial = PartialResults(folder, key="one")
    for value in (1.0, 2.0):
        partial.rows("pgd", (2, 1)).fill_(value)
        partial.marks("pgd", 2).fill_(STANDS)
        partial.save()
    return partial


def test_a_kill_between_the_two_files_leaves_the_last_whole_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = with_rows(tmp_path)
    partial.rows("pgd", (2, 1)).fill_(3)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "kdcam.evaluation.robustness.partial_results.json_form", killed
    )  # the tensors are written, the marks are not
    with pytest.raises(KeyboardInterrupt):
        partial.save()
    monkeypatch.undo()
    assert PartialResults(tmp_path, key="one").rows("pgd", (2, 1)).tolist() == [[2], [2]]


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x")]
)
def test_marks_without_their_tensors_start_over(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    with_rows(tmp_path)
    damage(tmp_path / json.loads((tmp_path / ONE).read_text())["tensors"]["file"])
    again = PartialResults(tmp_path, key="one")
    assert not again.resumed
    assert again.note is not None
    assert again.marks("pgd", 2).tolist() == [PENDING, PENDING]


def test_the_files_go_when_the_result_is_written(tmp_path: Path) -> None:
    partial = with_rows(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    partial.finish()
    assert list(tmp_path.iterdir()) == []


def test_tensors_that_a_kill_left_without_their_marks_are_removed(tmp_path: Path) -> None:
    with_rows(tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert len(kept) == 3
    remove_orphaned_tensors(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    (tmp_path / ONE).unlink()  # as the first step of finish() does
    (tmp_path / "model.safetensors").write_bytes(b"")
    remove_orphaned_tensors(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_folder_that_cannot_be_written_names_a_way_out_that_there_is(tmp_path: Path) -> None:
    partial = PartialResults(tmp_path / "gone", key="one")
    with pytest.raises(CheckpointError, match=r"progress-one\.json: cannot be written \(No such") as error:
        partial.save()
    assert "copy the run to a folder that you may write to" in str(error.value)
    assert "--output" not in str(error.value)


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    partial = PartialResults()
    partial.marks("pgd", 1)
    partial.save()
    partial.finish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"marks": {"pgd": 5}},
        {"marks": {"pgd": "é"}},
        {"marks": {"pgd": "1x"}},
        {"counts": []},
        {"counts": {"pgd": {"forwards": "many"}}},
        {"tensors": {"file": "../other.safetensors"}},
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    document = {"key": "one", "marks": {}, "counts": {}, "sections": {}, "tensors": None, **changed}
    (tmp_path / ONE).write_text(json.dumps(document))
    with pytest.raises(
        CheckpointError, match=r"robustness-progress-one\.json: not as kdcam writes it.*remove"
    ):
        PartialResults(tmp_path, key="one")


def test_what_does_not_fit_the_work_is_refused(tmp_path: Path) -> None:
    document = {"key": "one", "marks": {"pgd": "11"}, "counts": {}, "sections": {"checks": {"numbers": 5}}}
    (tmp_path / ONE).write_text(json.dumps({**document, "tensors": None}))
    partial = PartialResults(tmp_path, key="one")
    with pytest.raises(CheckpointError, match=r"2 marks of pgd where there are 3 images"):
        partial.marks("pgd", 3)
    with pytest.raises(CheckpointError, match=r"marks of pgd without its logits"):
        partial.rows("pgd", (2, 1))
    with pytest.raises(CheckpointError, match=r"section checks"):
        partial.section("checks", Section, lambda: Section(numbers=()))


def test_a_digest_knows_values_and_not_their_order() -> None:
    assert combined_digest({"a": 1, "b": (2.0, 3)}) == combined_digest({"b": [2.0, 3], "a": 1})
    assert combined_digest({"a": 1}) != combined_digest({"a": 2})


class Stopping(Silent):
    """Somebody who wants to stop at once."""

    def should_stop(self) -> bool:
        """Return True."""
        return True


def test_nothing_happens_where_nobody_asks() -> None:
    stop_with_results_kept(Silent())


def test_loops_over_images_stop() -> None:
    classifier = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    batches = TensorBatches(torch.rand(6, 1, 8, 8), torch.arange(6) % 3)
    with pytest.raises(Interrupted, match=r"what is done is kept"):
        collect_logits(classifier, batches, task="calibration", progress=Stopping())
    with pytest.raises(Interrupted, match=r"what is done is kept"):
        corruption_report(classifier, batches, n_examples=6, progress=Stopping())
