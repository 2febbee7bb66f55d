import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from kdcam.errors import CheckpointError
from kdcam.runs.run_folder import RunFolder

RECIPE: dict[str, Any] = {"seed": 0, "loss": [{"name": "kd", "weight": 0.9}], "optimizer": {"lr": 0.1}}
OTHER: dict[str, Any] = {**RECIPE, "optimizer": {"lr": 0.05}}


def _start(path: Path, recipe: dict[str, Any] = RECIPE) -> RunFolder:
    folder = RunFolder.open(path, recipe)
    folder.write_recipe(command=["kdcam", "train", "digits"], seed=0, device="cpu")
    return folder


def _leave_unfinished(path: Path) -> None:
    with _start(path) as folder:
        folder.append_metrics({"epoch": 1})
    (path / "resume").mkdir()
    (path / "resume" / "state.safetensors").write_bytes(b"state")
    (path / "model.safetensors").write_bytes(b"weights")


def _finish(path: Path) -> None:
    with _start(path) as folder:
        folder.write_result({"test": {"acc1": 0.5}})


def _contents(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_new_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "runs" / "a-0", RECIPE) as folder:
        assert folder.state == "new"
        assert folder.path.is_dir()


def test_recipe_file_says_what_was_run_with_what(tmp_path: Path) -> None:
    with _start(tmp_path / "run"):
        record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert record["recipe"] == RECIPE
    assert record["command"] == ["kdcam", "train", "digits"]
    assert record["seed"] == 0
    assert record["machine"]["device"] == "cpu"
    assert record["versions"]["torch"]


def test_result_finishes_the_run(tmp_path: Path) -> None:
    _finish(tmp_path / "run")
    before = _contents(tmp_path / "run")
    with RunFolder.open(tmp_path / "run", RECIPE) as folder:
        assert folder.state == "finished"
        assert folder.read_result() == {"test": {"acc1": 0.5}}
    assert _contents(tmp_path / "run") == before


def test_unfinished_run_of_the_same_recipe_goes_on(tmp_path: Path) -> None:
    _leave_unfinished(tmp_path / "run")
    before = _contents(tmp_path / "run")
    with RunFolder.open(tmp_path / "run", RECIPE) as folder:
        assert folder.state == "unfinished"
        assert folder.read_metrics() == [{"epoch": 1}]
        folder.cut_metrics(0)
        assert folder.read_metrics() == []
    assert _contents(tmp_path / "run") == {**before, "metrics.jsonl": b""}


def test_recipe_is_compared_as_json(tmp_path: Path) -> None:
    _leave_unfinished(tmp_path / "run")
    with RunFolder.open(tmp_path / "run", {**RECIPE, "loss": tuple(RECIPE["loss"])}) as folder:
        assert folder.state == "unfinished"


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (OTHER, r"optimizer\.lr: 0\.1 there, 0\.05 here"),
        ({**RECIPE, "loss": [{"name": "cam", "weight": 0.9}]}, r'loss\[0\]\.name: "kd" there, "cam" here'),
        ({**RECIPE, "loss": []}, r'loss: \[\{"name": "kd", "weight": 0\.9\}\] there, \[\] here'),
        ({**RECIPE, "ema_decay": 0.9}, r"ema_decay: not set there, 0\.9 here"),
        ({key: RECIPE[key] for key in ("loss", "optimizer")}, r"seed: 0 there, not set here"),
    ],
)
def test_another_recipe_is_refused_with_the_first_difference(
    tmp_path: Path, finished: bool, other: dict[str, Any], difference: str
) -> None:
    (_finish if finished else _leave_unfinished)(tmp_path / "run")
    before = _contents(tmp_path / "run")
    kind = "a finished run" if finished else "an unfinished run"
    with pytest.raises(CheckpointError, match=rf"{kind} of another recipe \({difference}\).*--output"):
        RunFolder.open(tmp_path / "run", other)
    assert _contents(tmp_path / "run") == before


def test_never_removes_an_unfinished_run_and_nothing_else(tmp_path: Path) -> None:
    _leave_unfinished(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with RunFolder.open(tmp_path / "run", OTHER, resume="never") as folder:
        assert folder.state == "new"
    assert _contents(tmp_path / "run").keys() == {".lock", "notes.txt"}


def test_never_refuses_a_finished_run(tmp_path: Path) -> None:
    _finish(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"a finished run is not overwritten.*--output"):
        RunFolder.open(tmp_path / "run", RECIPE, resume="never")


def test_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"somebody's")
    with pytest.raises(CheckpointError, match=r"holds model\.safetensors but no recipe\.json.*--output"):
        RunFolder.open(tmp_path, RECIPE)


def test_killed_before_the_recipe_was_written_is_new(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, RECIPE).close()
    (tmp_path / ".recipe.json.aside-00000000").write_bytes(b"{")
    with RunFolder.open(tmp_path, OTHER) as folder:
        assert folder.state == "new"
        assert _contents(tmp_path).keys() == {".lock"}


def test_run_without_a_kept_state_makes_way_for_another_recipe(tmp_path: Path) -> None:
    with _start(tmp_path) as folder:
        folder.append_metrics({"epoch": 1})
    with RunFolder.open(tmp_path, OTHER) as folder:
        assert folder.state == "new"
    assert _contents(tmp_path).keys() == {".lock"}


def test_leftovers_of_a_killed_save_are_removed(tmp_path: Path) -> None:
    _leave_unfinished(tmp_path)
    (tmp_path / "resume" / ".state.safetensors.aside-00000000").write_bytes(b"torn")
    RunFolder.open(tmp_path, RECIPE).close()
    assert [file.name for file in (tmp_path / "resume").iterdir()] == ["state.safetensors"]


def test_second_process_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    with _start(tmp_path), pytest.raises(CheckpointError, match="another process is writing"):
        RunFolder.open(tmp_path, RECIPE)
    RunFolder.open(tmp_path, RECIPE).close()


def test_refused_folder_is_not_left_locked(tmp_path: Path) -> None:
    _leave_unfinished(tmp_path)
    with pytest.raises(CheckpointError, match="another recipe"):
        RunFolder.open(tmp_path, OTHER)
    RunFolder.open(tmp_path, RECIPE).close()


def test_broken_recipe_file_is_named(tmp_path: Path) -> None:
    _leave_unfinished(tmp_path)
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"recipe\.json, line 1: is no JSON"):
        RunFolder.open(tmp_path, RECIPE)


def test_changed_versions_are_named(tmp_path: Path) -> None:
    with _start(tmp_path) as folder:
        assert folder.changed_versions() == {}
        record = json.loads((tmp_path / "recipe.json").read_text())
        now = record["versions"]["torch"]
        record["versions"]["torch"] = "1.0"
        (tmp_path / "recipe.json").write_text(json.dumps(record))
        assert folder.changed_versions() == {"torch": ("1.0", now)}


def test_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"file/run: the folder cannot be made \(Not a directory\)"):
        RunFolder.open(tmp_path / "file" / "run", RECIPE)


def test_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"file: the folder cannot be made \(File exists\)"):
        RunFolder.open(tmp_path / "file", RECIPE)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write to read-only folders"
)
def test_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(CheckpointError, match=r"no file can be written there \(Permission denied\)"):
            RunFolder.open(tmp_path, RECIPE)
    finally:
        tmp_path.chmod(0o755)


def test_read_only_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*args: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(CheckpointError, match=r"Read-only file system.*--output"):
        RunFolder.open(tmp_path, RECIPE)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def _with_teacher(folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"first")
    return {**RECIPE, "teacher": {"checkpoint": str(folder)}}


def test_an_unfinished_run_does_not_go_on_under_other_weights_of_its_teacher(tmp_path: Path) -> None:
    recipe = _with_teacher(tmp_path / "teacher")
    _start(tmp_path / "run", recipe).close()
    (tmp_path / "run" / "resume").mkdir()
    (tmp_path / "run" / "resume" / "state.safetensors").write_bytes(b"state")
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        assert folder.state == "unfinished"
    (tmp_path / "teacher" / "model.safetensors").write_bytes(b"second")
    before = _contents(tmp_path / "run")
    with pytest.raises(
        CheckpointError,
        match=r"holds an unfinished run under other weights of the teacher .*than there are now",
    ):
        RunFolder.open(tmp_path / "run", recipe)
    assert _contents(tmp_path / "run") == before


def test_a_finished_run_of_other_weights_of_its_teacher_is_not_taken_for_this_one(tmp_path: Path) -> None:
    recipe = _with_teacher(tmp_path / "teacher")
    with _start(tmp_path / "run", recipe) as folder:
        folder.write_result({})
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        assert folder.state == "finished"
    (tmp_path / "teacher" / "model.safetensors").write_bytes(b"second")
    with pytest.raises(CheckpointError, match=r"holds a finished run under other weights of the teacher"):
        RunFolder.open(tmp_path / "run", recipe)


def test_the_settings_beside_a_teachers_weights_count_too(tmp_path: Path) -> None:
    recipe = _with_teacher(tmp_path / "teacher")
    (tmp_path / "teacher" / "config.json").write_text('{"mean": [0.5]}')
    with _start(tmp_path / "run", recipe) as folder:
        folder.write_result({})
    (tmp_path / "teacher" / "config.json").write_text('{"mean": [0.4]}')
    with pytest.raises(CheckpointError, match=r"or another config\.json beside them"):
        RunFolder.open(tmp_path / "run", recipe)
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    (checkpoint,) = record["teacher_weights"]
    record["teacher_weights"][checkpoint] = hashlib.sha256(b"first").hexdigest()  # as before it counted
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(record))
    RunFolder.open(tmp_path / "run", recipe).close()


def test_a_run_that_kept_no_state_may_begin_anew_under_another_teacher(tmp_path: Path) -> None:
    recipe = _with_teacher(tmp_path / "teacher")
    _start(tmp_path / "run", recipe).close()
    (tmp_path / "teacher" / "model.safetensors").write_bytes(b"second")
    with RunFolder.open(tmp_path / "run", recipe) as folder:
        assert folder.state == "new"
