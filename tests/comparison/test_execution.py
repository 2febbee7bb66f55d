"""Comparisons of real runs of a second, on 45 tiny scenes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from picture_folders import fill
from small_runs import Watcher

import kdcam
from kdcam.comparison.execution import compare, devices_of, find_cell_states
from kdcam.comparison.plan.comparison_plan import plan_comparison
from kdcam.comparison.table.output_folder import run_folder
from kdcam.errors import Interrupted, RecipeError, TrainingError
from kdcam.files.digests import file_digest
from kdcam.runs.run_files import find_state

pytestmark = pytest.mark.usefixtures("forked_workers")

MODEL = "model.safetensors"
SPEEDS = ("images_per_second", "seconds")


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a worker is started")

    monkeypatch.setattr("kdcam.comparison.workers.worker_pool.Worker", refused)


class Stopping(Watcher):
    """Asks to stop when a training bar has moved so far."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step_to_stop, self.stops = step, False

    def advance(self, task: str, done: int, total: int) -> None:
        self.stops |= task.startswith("scenes") and done >= self.step_to_stop

    def should_stop(self) -> bool:
        return self.stops


def _without_speeds(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "comparison.json").read_text())
    for row in document["rows"]:
        for name in SPEEDS:
            del row[name]
    return document


def test_a_row_that_fails_is_named_and_the_table_stands(scenes: str, photos: str, tmp_path: Path) -> None:
    progress = Watcher()
    output = tmp_path / "out"
    found = compare(
        [scenes, photos],
        grid=["optimizer.lr=0.05,1e30"],
        sets=["optimizer.name=sgd"],
        seeds=(0,),
        jobs=2,
        output=output,
        progress=progress,
    )
    by_name = {row.name: row for row in found.rows}
    assert len(by_name) == 4
    whole = [row for row in found.rows if row.seeds == (0,)]
    assert [(row.source, row.settings) for row in whole] == [(scenes, ("optimizer.lr=0.05",))]
    reasons = {run.row: run.reason for run in found.failed}
    assert len(reasons) == 3
    for name, reason in reasons.items():
        expected = str(tmp_path / "photos") if by_name[name].source == photos else "finite"
        assert expected in reason
        assert any(text.startswith(f"{by_name[name].folder}-0: failed: ") for text in progress.warnings)
    markdown = (output / "comparison.md").read_text()
    assert all(reason in markdown for reason in reasons.values())
    assert (output / "runs" / ".gitignore").read_text() == "*\n"
    assert {path.name for path in output.iterdir()} == {
        "comparison.md",
        "comparison.csv",
        "comparison.json",
        "curves.png",
        "runs",
    }
    assert json.loads((output / "comparison.json").read_text()) == found.to_json()


def test_what_is_finished_is_taken_and_what_is_missing_is_run(
    scenes: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first = compare([scenes], seeds=(0,), output=tmp_path / "out")
    more = compare([scenes], seeds=(0, 1), output=tmp_path / "out")
    assert [row.seeds for row in (*first.rows, *more.rows)] == [(0,), (0, 1)]
    request.getfixturevalue("no_worker")
    assert compare([scenes], seeds=(0, 1), output=tmp_path / "out") == more


def test_a_failed_run_is_tried_again(scenes: str, photos: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert len(compare([scenes, photos], seeds=(0,), output=output).failed) == 1
    for name in ("cat", "dog"):
        _pictures(tmp_path / "photos" / name)
    again = compare([scenes, photos], seeds=(0,), output=output)
    assert again.failed == ()
    assert [row.seeds for row in again.rows] == [(0,), (0,)]


def _pictures(folder: Path) -> None:
    import numpy
    from PIL import Image

    folder.mkdir(parents=True)
    for index in range(12):
        pixels = numpy.full((16, 16, 3), 20 * index, dtype=numpy.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


def test_no_run_at_all_is_an_error_with_the_reason(photos: str, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"none of the 2 runs came to its end; photos-0: .*photos.*comparison"
    ):
        compare([photos], seeds=(0, 1), output=tmp_path / "out")
    assert "photos-1" in (tmp_path / "out" / "comparison.md").read_text()


def test_an_interrupted_one_goes_on_and_ends_like_an_uninterrupted_one(scenes: str, tmp_path: Path) -> None:
    Path(scenes).write_text(Path(scenes).read_text().replace("epochs = 1", "epochs = 3"))
    compare([scenes], seeds=(0, 1), output=tmp_path / "whole")
    with pytest.raises(Interrupted, match=r"cut: stopped with 0 of 2 runs done; .* the same command goes on"):
        compare([scenes], seeds=(0, 1), output=tmp_path / "cut", progress=Stopping(4))
    assert find_state(run_folder(tmp_path / "cut", "scenes-0")) == "unfinished"
    progress = Watcher()
    compare([scenes], seeds=(0, 1), output=tmp_path / "cut", progress=progress)
    assert any("going on after epoch" in text for text in progress.messages)
    assert _without_speeds(tmp_path / "cut") == _without_speeds(tmp_path / "whole")


def test_changed_pictures_of_finished_runs_are_told_once_and_moved_ones_are_no_change(tmp_path: Path) -> None:
    root, recipe = fill(tmp_path / "data", count=6), tmp_path / "pictures.toml"
    recipe.write_text(
        f"""
epochs = 1
batch_size = 8
[data]
name = "image-folder"
root = "{root}"
image_size = 16
[model]
name = "kdcam:resnet8_s2"
[[loss]]
name = "cross_entropy"
"""
    )
    asked = {"recipes": [str(recipe)], "seeds": (0, 1), "output": tmp_path / "out", "device": "cpu"}
    compare(**asked)
    moved = root.rename(tmp_path / "moved")
    watcher = Watcher()
    compare(**asked, sets=[f"data.root={moved}"], progress=watcher)
    assert watcher.warnings == []
    sorted(moved.rglob("*.png"))[0].unlink()
    compare(**asked, sets=[f"data.root={moved}"], progress=watcher)
    (warning,) = watcher.warnings
    assert (
        "its data has changed since it was trained: 1 of 18 pictures have changed (gone: ant/ant000.png)"
        in warning
    )


def test_the_finished_run_of_another_recipe_is_told_at_once_and_kept(
    scenes: str, tmp_path: Path, no_worker: None
) -> None:
    other = kdcam.load_recipe(scenes, ["epochs=2"])
    folder = run_folder(tmp_path / "out", "scenes-0")
    kdcam.train(other, output=folder)
    before = (folder / "result.json").read_bytes()
    with pytest.raises(
        TrainingError, match=r"can be made; scenes-0: .*finished run of another recipe \(epochs"
    ):
        compare([scenes], seeds=(0,), output=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["runs"]
    assert [path.name for path in (tmp_path / "out" / "runs").iterdir()] == ["scenes-0"]
    assert (folder / "result.json").read_bytes() == before
    (state,) = find_cell_states(plan_comparison([scenes], seeds=(0,)), tmp_path / "out", {})
    assert state.state == "finished"
    assert state.problem is not None
    assert "another recipe" in state.problem


def test_agreement_is_measured_after_the_run_and_later_where_it_is_missing(
    scenes: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = kdcam.train(scenes, output=tmp_path / "teacher").path
    arguments: dict[str, Any] = {
        "base": scenes,
        "methods": ["kd", "alone"],
        "teachers": [str(teacher)],
        "seeds": (0,),
        "output": tmp_path / "out",
    }
    read: list[Path] = []

    def counted(file: Path) -> str | None:
        read.append(file)
        return file_digest(file)

    monkeypatch.setattr("kdcam.runs.resume_rules.file_digest", counted)
    found = compare(**arguments)
    assert read.count(teacher / MODEL) == 1  # large files are not read again for each run
    with_agreement = [row.folder for row in found.rows if row.agreement is not None]
    assert {row.folder for row in found.rows if row.method in {"kd", "alone"}} <= set(with_agreement)
    (run_folder(tmp_path / "out", f"{with_agreement[-1]}-0") / "agreement.json").unlink()
    progress = Watcher()
    assert compare(**arguments, progress=progress) == found
    assert not any("done, " in text for text in progress.messages)  # nothing was trained
    request.getfixturevalue("no_worker")
    assert compare(**arguments) == found
    (run_folder(tmp_path / "out", "scenes-kd-0") / "result.json").write_text("{}")
    broken = compare(**arguments)
    assert [(run.name, "have another layout" in run.reason) for run in broken.failed] == [
        ("scenes-kd-0", True)
    ]
    assert {row.folder: row.seeds for row in broken.rows} == {
        row.folder: () if row.method == "kd" else (0,) for row in found.rows
    }


def test_two_losses_at_two_noise_rates(scenes: str, tmp_path: Path) -> None:
    progress = Watcher()
    found = compare(
        [scenes],
        losses=["cross_entropy", "cam"],
        grid=["data.noise.rate=0,0.4"],
        sets=["data.noise.kind=symmetric", "loss.cam.weight=2"],
        seeds=(0,),
        output=tmp_path / "out",
        progress=progress,
    )
    assert found.failed == ()
    assert [row.name for row in found.rows] == [
        "cross_entropy-noise.rate=0",
        "cross_entropy-noise.rate=0.4",
        "cam-noise.rate=0",
        "cam-noise.rate=0.4",
    ]
    assert all(row.test_selected is not None for row in found.rows)
    assert all(
        row.difference is not None for row in found.rows[1:]
    )  # however wrong the labels of training are
    folder = run_folder(tmp_path / "out", "scenes-cam-noise.rate=0.4-0")
    recipe = json.loads((folder / "recipe.json").read_text())["recipe"]
    assert [(loss["name"], loss["weight"]) for loss in recipe["loss"]] == [("cross_entropy", 1), ("cam", 2)]
    assert recipe["data"]["noise"]["rate"] == 0.4
    assert any("loss.cam.weight has no place" in text for text in progress.messages)


def test_a_row_may_start_from_a_trained_network(scenes: str, tmp_path: Path) -> None:
    base = kdcam.train(scenes, output=tmp_path / "base").path
    found = compare(
        [scenes],
        grid=["init.frozen=none,all"],
        sets=[f'init.checkpoint="{base}"'],
        seeds=(0,),
        output=tmp_path / "out",
    )
    assert found.failed == ()
    assert [row.name for row in found.rows] == ["init.frozen=none", "init.frozen=all"]
    assert all(row.test_selected is not None for row in found.rows)


def test_jobs_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices_of("cpu", 2) == ("cpu", "cpu")
    with pytest.raises(RecipeError, match=r"--jobs 0: must be at least 1"):
        devices_of("cpu", 0)
    with pytest.raises(RecipeError, match=r"--device gpu"):
        devices_of("gpu", 1)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert devices_of("auto", 3) == ("cuda:0", "cuda:1", "cuda:0")


def test_a_run_under_former_weights_of_its_teacher_is_not_in_the_table(scenes: str, tmp_path: Path) -> None:
    teacher = kdcam.train(scenes, output=tmp_path / "teacher").path
    other = kdcam.train(kdcam.load_recipe(scenes, ["seed=1"]), output=tmp_path / "other").path
    arguments: dict[str, Any] = {
        "base": scenes,
        "methods": ["kd"],
        "teachers": [str(teacher)],
        "seeds": (0,),
        "output": tmp_path / "out",
    }
    assert compare(**arguments).failed == ()
    shutil.copy(other / MODEL, teacher / MODEL)
    found = compare(**arguments)
    (run,) = found.failed
    assert run.name == "scenes-kd-0"
    assert "under other weights of the teacher" in run.reason
    assert "remove this folder to run it anew" in run.reason
    assert [row.seeds for row in found.rows] == [(0,), ()]


def test_a_run_from_former_weights_of_its_start_is_not_in_the_table(scenes: str, tmp_path: Path) -> None:
    start = kdcam.train(scenes, output=tmp_path / "start").path
    other = kdcam.train(kdcam.load_recipe(scenes, ["seed=1"]), output=tmp_path / "other").path
    tuned = tmp_path / "tuned.toml"
    table, _, _ = Path(scenes).read_text().partition("[model]")
    tuned.write_text(f'{table}[init]\ncheckpoint = "{start}"\nfrozen = 2\n')
    first = compare([scenes, str(tuned)], seeds=(0,), output=tmp_path / "out")
    assert first.failed == ()
    _, row = first.rows
    assert row.start == f"starts from {start}, stem and 2 of its stages frozen"
    assert f"; starts from {start}, stem and 2 of its stages frozen" in first.to_markdown()
    shutil.copy(other / MODEL, start / MODEL)
    found = compare([scenes, str(tuned)], seeds=(0,), output=tmp_path / "out")
    (run,) = found.failed
    assert run.name == "tuned-0"
    assert f"under other weights of the teacher or start {start}" in run.reason
    assert [row.seeds for row in found.rows] == [(0,), ()]


def test_a_solved_probe_has_no_epochs_in_the_table(scenes: str, tmp_path: Path) -> None:
    start = kdcam.train(scenes, output=tmp_path / "start").path
    probe = tmp_path / "probe.toml"
    table, _, _ = Path(scenes).read_text().partition("[model]")
    probe.write_text(f'{table}[init]\ncheckpoint = "{start}"\nfrozen = "all"\n')
    found = compare([scenes, str(probe)], seeds=(0,), output=tmp_path / "out")
    trained, probed = found.rows
    assert trained.best_epoch is not None
    assert (probed.best_epoch, probed.epochs_to_base, probed.images_per_second) == (None, None, None)
    assert probed.curves == {}
    assert probed.validation_selected == probed.validation_last is not None
    note = "Linear probes (probe): the classifier was solved on features computed once, so there are no epochs to"
    assert note in found.to_markdown()


def test_a_wrong_teacher_is_told_with_the_flag_that_named_it(scenes: str, tmp_path: Path) -> None:
    found = compare(
        [], base=scenes, methods=["kd"], teachers=["runs/gone"], seeds=(0,), output=tmp_path / "out"
    )
    assert [run.reason.partition(";")[0] for run in found.failed] == ["--teacher: runs/gone is not there"]


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_the_threads_of_a_worker_do_not_depend_on_how_many_runs_are_missing(
    scenes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, ...]
) -> None:
    monkeypatch.setattr("kdcam.comparison.execution.describe_machine", lambda: {"cores": 8})
    shares: list[int] = []

    class Refusing:
        def __init__(self, *_: object, threads: int, **__: object) -> None:
            shares.append(threads)
            raise Interrupted("seen")

    monkeypatch.setattr("kdcam.comparison.workers.worker_pool.Worker", Refusing)
    with pytest.raises(Interrupted):
        compare([scenes], seeds=seeds, jobs=4, device="cpu", output=tmp_path / "out")
    assert shares == [2]


def test_refused_runs_are_counted_as_failed(scenes: str, tmp_path: Path) -> None:
    kdcam.train(kdcam.load_recipe(scenes, ["epochs=2"]), output=run_folder(tmp_path / "out", "scenes-0"))
    progress = Watcher()
    assert len(compare([scenes], seeds=(0, 1), output=tmp_path / "out", progress=progress).failed) == 1
    assert any(text.endswith("(1 of 2 runs, 1 failed)") for text in progress.messages)
