"""A run that is cut off goes on and ends bit for bit like one that was not."""

import errno
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import mutated_bytes
import numpy as np
import pytest
import torch
from kill_at_each_write import FaultAt, plant
from safetensors.torch import save_file
from small_runs import Watcher, kept_files, small_recipe

from kdcam.data.datasets import load_data
from kdcam.errors import CheckpointError, Interrupted
from kdcam.files import atomic_writes
from kdcam.runs.checkpoint import ResumeState, load_resume, save_resume
from kdcam.training.assembly import assemble
from kdcam.training.engine import TrainState
from kdcam.training.preflight import preflight
from kdcam.training.saved_state import capture_state, restore_state
from kdcam.training.training_run import run_training

KINDS: dict[str, dict[str, Any]] = {
    "cam": {},
    "mixed, averaged, accumulated": {
        "data": {
            "name": "digit-scenes",
            "image_size": 16,
            "train_size": 60,
            "test_size": 20,
            "augment": ["crop"],
            "mixup": 0.2,
            "cutmix": 1.0,
        },
        "ema_decay": 0.9,
        "accumulate": 2,
    },
    "noisy labels, AdamW": {
        "data": {
            "name": "digit-scenes",
            "image_size": 16,
            "train_size": 60,
            "test_size": 20,
            "noise": {"kind": "symmetric", "rate": 0.4},
        },
        "optimizer": {"name": "adamw", "lr": 0.001},
    },
    "masks that are drawn, centres that move and centres that learn": {
        "model": {"name": "kdcam:resnet8_s2", "channel_attention": True, "feature_channels": 25},
        "loss": [
            {"name": "cross_entropy"},
            {"name": "mutual_channel"},
            {"name": "channel_correlation"},
            {"name": "include_exclude"},
            {"name": "include_exclude", "centers": "learned", "start": 0.5},
        ],
    },
    "annealing, running confusion, class centres and records of each image": {
        "model": {"name": "kdcam:resnet8_s2", "head": "unit-weight"},
        "loss": [
            {"name": "asoftmax", "anneal_gamma": 1.0},
            {"name": "center"},
            {"name": "fical"},
            {"name": "truncated_generalized_cross_entropy", "threshold": 0.15, "truncate_from": 0.3},
        ],
    },
    "class means as a head": {
        "model": {"name": "kdcam:resnet8_s2", "head": "gaussian"},
        "loss": [{"name": "lgm"}, {"name": "cross_entropy", "class_balance_beta": 0.9}],
    },
    "several labels": {
        "task": "multi-label",
        "data": {
            "name": "digit-scenes",
            "image_size": 32,
            "train_size": 60,
            "test_size": 20,
            "validation": 0.25,
            "multi_label": True,
        },
        "loss": [{"name": "binary_cross_entropy"}, {"name": "hnc_kd", "start": 0.3}, {"name": "cam"}],
    },
}


def do_run(path: Path, *, stop_after: int | None = None, resume: Any = "auto", **changes: Any) -> Watcher:
    watcher = Watcher(stop_after)
    checked = preflight(small_recipe(**changes), device="cpu")
    run_training(checked, output=path, resume=resume, command=(), progress=watcher)
    return watcher


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "run"
    do_run(path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_at_any_step_it_ends_like_an_uninterrupted_run(tmp_path: Path, kind: str) -> None:
    changes = KINDS[kind]
    do_run(tmp_path / "whole", **changes)
    for stop_after in (1, 2, 4):
        path = tmp_path / f"stopped-{stop_after}"
        with pytest.raises(Interrupted, match="the same command goes on"):
            do_run(path, stop_after=stop_after, **changes)
        watcher = do_run(path, **changes)
        assert any("going on after epoch" in text for text in watcher.messages)
        assert kept_files(path) == kept_files(tmp_path / "whole")


def test_stopped_again_and_again(tmp_path: Path, reference: Path) -> None:
    path = tmp_path / "run"
    stops = 0
    while True:
        try:
            do_run(path, stop_after=1)
        except Interrupted:
            stops += 1
            continue
        break
    assert stops == 6  # three steps in each of two epochs
    assert kept_files(path) == kept_files(reference)


def test_terms_of_an_interrupted_epoch_are_those_of_the_whole_epoch(tmp_path: Path, reference: Path) -> None:
    from kdcam.runs.run_files import read_metrics

    path = tmp_path / "run"
    with pytest.raises(Interrupted):
        do_run(path, stop_after=2)
    do_run(path)
    for ours, theirs in zip(read_metrics(path), read_metrics(reference), strict=True):
        assert (ours["train"], ours["val"], ours["lr"]) == (theirs["train"], theirs["val"], theirs["lr"])


def test_finished_run_is_returned_as_it_is(reference: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in reference.rglob("*") if file.is_file()}
    checked = preflight(small_recipe(), device="cpu")
    assert run_training(checked, output=reference, resume="auto", command=(), progress=Watcher()).was_finished
    assert {file: file.stat().st_mtime_ns for file in reference.rglob("*") if file.is_file()} == before


def test_finished_run_of_another_recipe_is_refused(reference: Path) -> None:
    with pytest.raises(CheckpointError, match=r"epochs: 2 there, 3 here.*--output"):
        do_run(reference, epochs=3)


def test_going_on_with_another_kind_of_device_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(Interrupted):
        do_run(path, stop_after=1)
    papers = path / "recipe.json"
    papers.write_text(papers.read_text().replace('"device": "cpu"', '"device": "cuda:1"'))
    with pytest.raises(CheckpointError, match="began on cuda:1 and would go on on cpu; use --device cuda:1"):
        do_run(path)


def test_never_starts_an_unfinished_run_over(tmp_path: Path, reference: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(Interrupted):
        do_run(path, stop_after=4)
    watcher = do_run(path, resume="never")
    assert not any("going on" in text for text in watcher.messages)
    assert kept_files(path) == kept_files(reference)


def draws() -> tuple[object, ...]:
    """Return a number of each generator; the normal one leaves a spare behind in numpy's and Python's."""
    return (torch.rand(1).item(), np.random.normal(), np.random.rand(), random.gauss(0, 1), random.random())


def test_generators_go_on_where_they_were_after_a_trip_through_the_file(tmp_path: Path) -> None:
    checked = preflight(small_recipe(), device="cpu")
    _, state = assemble(checked, load_data(checked.recipe.data))
    draws()
    save_resume(tmp_path, capture_state(state))
    first = draws(), draws()
    torch.manual_seed(9)
    np.random.seed(9)
    random.seed(9)
    kept = load_resume(tmp_path)
    assert kept is not None
    restore_state(state, kept, place=tmp_path)
    assert (draws(), draws()) == first


# --- A damaged state ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainState, Path]:
    """A run as it is assembled, and a folder with a state of it after an update."""
    folder = tmp_path_factory.mktemp("unfinished")
    checked = preflight(small_recipe(**KINDS["noisy labels, AdamW"]), device="cpu")
    _, state = assemble(checked, load_data(checked.recipe.data))
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.means.load_state_dict({"sums": {"cam": torch.ones(())}, "images": {"cam": 8}})
    save_resume(folder, capture_state(state))
    return state, folder


def without_seal(folder: Path, record: dict[str, Any], target: Path) -> Path:
    """Write a state as kdcam wrote it before there was a checksum."""
    kept = load_resume(folder)
    assert kept is not None
    header = {"format": 1, "record": record, "channels_last": []}
    (target / "resume").mkdir(exist_ok=True, parents=True)
    tensors = {name: tensor.contiguous() for name, tensor in kept.tensors.items()}
    save_file(tensors, target / "resume" / "state.safetensors", {"kdcam": json.dumps(header)})
    return target


def go_on(state: TrainState, folder: Path) -> None:
    kept = load_resume(folder)
    assert kept is not None
    restore_state(state, kept, place=folder / "resume" / "state.safetensors")


def test_any_flipped_bit_of_a_state_is_found(unfinished: tuple[TrainState, Path], tmp_path: Path) -> None:
    state, folder = unfinished
    data = (folder / "resume" / "state.safetensors").read_bytes()
    whole = capture_state(state)
    file = tmp_path / "resume" / "state.safetensors"
    file.parent.mkdir()
    refused = 0
    for damaged in mutated_bytes.mutations([data], count=200, seed=1):
        file.write_bytes(damaged)
        try:
            found = load_resume(tmp_path)
        except CheckpointError as error:
            assert str(error).endswith("start over with --resume never")
            assert len(str(error).splitlines()) == 1
            refused += 1
            continue
        assert found is not None
        assert found.record == json.loads(json.dumps(whole.record))
        assert all(torch.equal(found.tensors[name], value) for name, value in whole.tensors.items())
    assert refused > 150


def test_a_state_from_before_there_was_a_checksum_goes_on(
    unfinished: tuple[TrainState, Path], tmp_path: Path
) -> None:
    state, folder = unfinished
    whole = capture_state(state)
    go_on(state, without_seal(folder, json.loads(json.dumps(whole.record)), tmp_path))
    assert json.dumps(capture_state(state).record) == json.dumps(whole.record)


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        ("muon", "tanh"),
        ("adafactor", "poly"),
        ("adafactorbv", "cosine"),
        ("lamb", "step"),
        ("sgd", "multistep"),
    ],
)
def test_states_of_other_optimizers_and_schedules_fit(tmp_path: Path, optimizer: str, schedule: str) -> None:
    """Some keep other things of one parameter than of the next, and of other shapes."""
    changes = {"optimizer": {"name": optimizer, "lr": 0.001}, "schedule": {"name": schedule}}
    if schedule == "multistep":
        changes["schedule"] |= {"milestones": [1], "gamma": 0.1}
    elif schedule == "step":
        changes["schedule"] |= {"options": {"decay_epochs": 1}}
    checked = preflight(small_recipe(**changes), device="cpu")
    parts = load_data(checked.recipe.data)
    _, state = assemble(checked, parts)
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    save_resume(tmp_path, capture_state(state))
    _, again = assemble(checked, parts)
    go_on(again, tmp_path)
    assert json.dumps(capture_state(again).record["optimizer"]) == json.dumps(
        capture_state(state).record["optimizer"]
    )


def change(record: Any, way: str, value: Any) -> Any:
    """Return a record with another value at a place of its nested lists and tables."""
    *steps, last = [int(step) if step.lstrip("-").isdigit() else step for step in way.split("/")]
    place = record
    for step in steps:
        place = place[step]
    place[last] = value
    return record


@pytest.mark.parametrize(
    ("way", "value"),
    [
        ("means/__pairs__/0/0", math.nan),
        ("means/__pairs__/1/1/__pairs__/0/1", "8"),
        ("means/__pairs__/0/1/__pairs__/0/1", 3),
        ("optimizer/__pairs__/0/0", "stale"),
        ("optimizer/__pairs__/0/1/__pairs__/0/0", 999),
        ("optimizer/__pairs__/0/1/__pairs__/0/1/__pairs__/1/0", math.nan),
        ("optimizer/__pairs__/0/1/__pairs__/0/1/__pairs__/1/1", {"__tensor__": "generators.torch"}),
        ("optimizer/__pairs__/0/1/__pairs__/0/1/__pairs__/1/1", {"__tensor__": "gone"}),
        ("optimizer/__pairs__/1/1/0/__pairs__/0/1", "text"),
        ("optimizer/__pairs__/1/1", []),
        ("position/__pairs__/0/1", "2"),
        ("position/__pairs__/0/1", -2),
        ("position/__pairs__/0/0", "era"),
        ("position/__pairs__/4/1", {"__pairs__": [["acc1", "high"]]}),
        ("generators/__pairs__/0/1", {"__tensor__": "student.network.fc.weight"}),
        ("generators/__pairs__/2/1", {"__tuple__": ["MT19937"]}),
        ("generators/__pairs__/2/1/__tuple__/1", 5),
        ("generators/__pairs__/3/1/__tuple__/1", 5),
        ("schedule", 5),
        ("scaler/__pairs__", [[[], []]]),
        ("position", {"deep": 1}),
    ],
)
def test_a_state_of_another_content_is_refused_with_the_way_out(
    unfinished: tuple[TrainState, Path], tmp_path: Path, way: str, value: Any
) -> None:
    state, folder = unfinished
    record = change(json.loads(json.dumps(capture_state(state).record)), way, value)
    with pytest.raises(
        CheckpointError, match=r"state\.safetensors: .*; start over with --resume never$"
    ) as caught:
        go_on(state, without_seal(folder, record, tmp_path))
    assert len(str(caught.value).splitlines()) == 1


def test_damaged_records_without_a_checksum_are_refused_or_taken(
    unfinished: tuple[TrainState, Path], tmp_path: Path
) -> None:
    state, folder = unfinished
    whole = capture_state(state)
    restore_state(state, whole, place=folder)
    text = json.dumps(whole.record | {"generators": None}).encode()
    refused = 0
    for damaged in mutated_bytes.mutations([text], count=1_000, seed=2):
        try:
            record = json.loads(damaged)
            assert isinstance(record, dict)
        except (AssertionError, RecursionError, ValueError):
            continue  # no JSON; what follows is about its content
        kept = ResumeState(whole.tensors, {**record, "generators": whole.record["generators"]})
        try:
            restore_state(state, kept, place=folder)
        except CheckpointError as error:
            assert len(str(error).splitlines()) == 1
            refused += 1
    assert refused > 100


def test_killed_at_each_write_it_ends_like_an_uninterrupted_run(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "kill_at_each_write.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20  # recipe, weights, results and state are written piece by piece


def test_full_disk_at_each_write_is_one_clear_line_and_costs_nothing(tmp_path: Path, reference: Path) -> None:
    wanted = kept_files(reference)

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    failures, count = 0, 0
    while True:
        path = tmp_path / f"full-{count}"
        undo = plant(FaultAt(count, full))
        try:
            do_run(path)
        except CheckpointError as error:
            failures += 1
            assert "No space left" in str(error)
            assert "\n" not in str(error)
        else:
            break
        finally:
            for step in undo:
                step()
        do_run(path)
        assert kept_files(path) == wanted, f"disk full at write {count}"
        count += 1
    assert failures > 20


def test_leftovers_of_a_killed_write_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(Interrupted):
        do_run(path, stop_after=1)
    leftover = path / "resume" / f".state.safetensors{atomic_writes._ASIDE}dead"
    leftover.write_bytes(b"half")
    do_run(path)
    assert not leftover.exists()
