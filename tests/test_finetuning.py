"""Whole runs that start from a trained network: what is frozen stays, is unfrozen, and resumes bit for bit."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from default_float64 import wide
from long_tests import compile_quickly
from safetensors.torch import load_file, save_file
from small_runs import SCENES, Watcher, kept_files, small_recipe
from torch import Tensor

import kdcam
from kdcam.data.datasets import load_data
from kdcam.errors import CheckpointError, Interrupted, RecipeError
from kdcam.models import build
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe
from kdcam.training.assembly import assemble
from kdcam.training.engine import Plan, TrainState, fit, train_step
from kdcam.training.preflight import preflight

STEM_AND_FIRST = ("network.conv1.", "network.bn1.", "network.layer1.")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small trained run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    kdcam.train(small_recipe(epochs=1), output=folder, device="cpu")
    return folder


def tuned(trained: Path, init: dict[str, Any] | None = None, **changes: Any) -> TrainRecipe:
    """Return a recipe that goes on from the trained run: three steps an epoch."""
    table: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 16,
        "data": {**SCENES, "augment": ["crop"]},
        "optimizer": {"name": "sgd", "lr": 0.05, "weight_decay": 0.1},
        "init": {"checkpoint": str(trained), **(init or {})},
    }
    return read_recipe(table | changes, source="tuned")


def assembled(recipe: TrainRecipe) -> tuple[Plan, TrainState]:
    checked = preflight(recipe, device="cpu")
    return assemble(checked, load_data(recipe.data))


class Snapshots:
    """Keeps the student's state after each epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Tensor]] = []

    def save(self, state: TrainState) -> None:
        self.epochs.append({name: one.clone() for name, one in state.model.student.state_dict().items()})

    def select(self, state: TrainState) -> None:
        del state

    def record(self, record: object) -> None:
        del record


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in after.items() if not torch.equal(before[name], value)}


@pytest.mark.parametrize(
    "changes", [{}, {"ema_decay": 0.5}, {"accumulate": 2}, {"optimizer": {"name": "adamw", "lr": 0.01}}]
)
def test_frozen_stages_stay_to_the_last_bit_until_they_are_unfrozen(
    trained: Path, changes: dict[str, Any]
) -> None:
    plan, state = assembled(tuned(trained, {"frozen": 1, "unfreeze": 0.5}, **changes))
    start = {name: one.clone() for name, one in state.model.student.state_dict().items()}
    snapshots = Snapshots()
    fit(plan, state, checkpointer=snapshots, progress=Watcher())
    first, second = snapshots.epochs
    held = {name for name in start if name.startswith(STEM_AND_FIRST)}
    assert len(held) > 10  # BatchNorm's statistics among them
    assert not moved(start, first) & held
    assert {"network.fc.weight", "network.layer2.0.bn1.running_mean"} <= moved(start, first)
    assert held <= moved(first, second)
    if state.ema is not None:
        averaged = {f"network.{name}": one for name, one in state.ema.module.network.state_dict().items()}
        assert held <= moved(start, averaged)


def test_without_unfreeze_they_never_move(trained: Path) -> None:
    plan, state = assembled(tuned(trained, {"frozen": 1}))
    start = {name: one.clone() for name, one in state.model.student.state_dict().items()}
    fit(plan, state, checkpointer=Snapshots(), progress=Watcher())
    changed = moved(start, state.model.student.state_dict())
    assert not [name for name in changed if name.startswith(STEM_AND_FIRST)]
    assert "network.layer2.0.conv1.weight" in changed


def test_an_optimisers_memory_begins_with_the_unfreezing(trained: Path) -> None:
    init = {"frozen": 1, "unfreeze": 0.5}
    plan, state = assembled(tuned(trained, init, optimizer={"name": "adamw", "lr": 0.01}))
    stem = state.model.student.network.get_parameter("conv1.weight")
    fit(plan._replace(epochs=1), state, checkpointer=Snapshots(), progress=Watcher())
    # That run of one epoch was over half when its third and last step began.
    assert state.optimizer.state[stem]["step"] == 1
    plan, state = assembled(tuned(trained, {"frozen": 1}, optimizer={"name": "adamw", "lr": 0.01}))
    fit(plan, state, checkpointer=Snapshots(), progress=Watcher())
    assert state.model.student.network.get_parameter("conv1.weight") not in state.optimizer.state
    assert state.optimizer.state[state.model.student.network.get_parameter("fc.weight")]["step"] == 6


@pytest.mark.parametrize("stop_after", [2, 3, 4])
@pytest.mark.parametrize(
    "changes",
    [{}, {"accumulate": 2, "ema_decay": 0.5, "optimizer": {"name": "adamw", "lr": 0.01}}],
    ids=["sgd", "adamw"],
)
def test_a_resumed_run_is_the_same_before_and_after_the_unfreezing(
    trained: Path, tmp_path: Path, stop_after: int, changes: dict[str, Any]
) -> None:
    recipe = tuned(trained, {"frozen": 2, "unfreeze": 0.5, "layer_decay": 0.5}, **changes)
    with pytest.raises(Interrupted):
        kdcam.finetune(recipe, output=tmp_path / "cut", device="cpu", progress=Watcher(stop_after))
    kdcam.finetune(recipe, output=tmp_path / "cut", device="cpu")
    kdcam.finetune(recipe, output=tmp_path / "whole", device="cpu")
    assert kept_files(tmp_path / "cut") == kept_files(tmp_path / "whole")


def test_a_run_keeps_its_init_as_written(trained: Path, tmp_path: Path) -> None:
    recipe = tuned(trained, {"frozen": 2})
    done = kdcam.finetune(recipe, output=tmp_path / "run", device="cpu", progress=(watcher := Watcher()))
    record = json.loads((done.path / "recipe.json").read_text())["recipe"]
    assert record["init"] == {
        "checkpoint": str(trained),
        "frozen": 2,
        "unfreeze": 1.0,
        "layer_decay": 1.0,
    }
    assert record["model"] == {}
    assert watcher.messages[0].startswith("kdcam:resnet8_s2 (")
    assert kdcam.finetune(recipe, output=tmp_path / "run", device="cpu").was_finished
    start, end = load_file(trained / "model.safetensors"), load_file(done.path / "model.safetensors")
    assert torch.equal(start["layer2.0.bn1.running_var"], end["layer2.0.bn1.running_var"])
    assert not torch.equal(start["layer3.0.conv1.weight"], end["layer3.0.conv1.weight"])
    assert kdcam.evaluate(done.path, device="cpu").images == 20
    with pytest.raises(CheckpointError, match=r"another recipe \(init\.frozen: 2 there, 1 here\)"):
        kdcam.finetune(tuned(trained, {"frozen": 1}), output=tmp_path / "run", device="cpu")


def test_a_start_whose_weights_have_changed_is_noticed(tmp_path: Path) -> None:
    start = tmp_path / "start"
    kdcam.train(small_recipe(epochs=1), output=start, device="cpu")
    kdcam.finetune(tuned(start, epochs=1), output=tmp_path / "run", device="cpu")
    weights = load_file(start / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, start / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"a finished run under other weights of the teacher or start"):
        kdcam.finetune(tuned(start, epochs=1), output=tmp_path / "run", device="cpu")


def test_a_student_under_a_teacher_may_start_from_a_network_too(trained: Path, tmp_path: Path) -> None:
    losses = [{"name": "cross_entropy"}, {"name": "kd"}]
    recipe = tuned(trained, {"frozen": 1}, epochs=1, loss=losses, teacher={"checkpoint": str(trained)})
    done = kdcam.distill(recipe, output=tmp_path / "run", device="cpu")
    start, end = load_file(trained / "model.safetensors"), load_file(done.path / "model.safetensors")
    assert torch.equal(start["layer1.0.conv1.weight"], end["layer1.0.conv1.weight"])
    with pytest.raises(RecipeError, match=r"use `kdcam distill`"):
        kdcam.finetune(recipe, output=tmp_path / "other", device="cpu")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler")
@pytest.mark.long
def test_a_compiled_student_freezes_and_unfreezes_too(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_quickly(monkeypatch)
    states = []
    for compiled in (False, True):
        plan, state = assembled(tuned(trained, {"frozen": 2, "unfreeze": 0.5}, compile=compiled, epochs=1))
        state.model.double().train()
        start = state.model.student.network.get_parameter("conv1.weight").clone()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's compiler warns of its own deprecated calls
            for batch in map(wide, plan.train.epoch(0)):
                train_step(plan, state, batch)
                state.position.step += 1
                held = torch.equal(start, state.model.student.network.get_parameter("conv1.weight"))
                assert held == (state.position.step < 3)
        states.append(state.model.student.state_dict())
    for name, value in states[0].items():
        assert torch.allclose(states[1][name], value, rtol=1e-9, atol=1e-12), name


def test_rates_fall_with_depth(trained: Path) -> None:
    _, state = assembled(tuned(trained, {"layer_decay": 0.5}))
    rates = {
        id(parameter): group["lr"] for group in state.optimizer.param_groups for parameter in group["params"]
    }
    network = state.model.student.network
    names = (
        "fc.weight",
        "layer3.0.conv1.weight",
        "layer2.0.bn1.bias",
        "layer1.0.conv1.weight",
        "conv1.weight",
    )
    assert [rates[id(network.get_parameter(name))] / 0.05 for name in names] == [1, 0.5, 0.25, 0.125, 0.0625]
    state.schedule.before_update(1.0)  # half of the cosine
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(0.025)
    assert min(group["lr"] for group in state.optimizer.param_groups) == pytest.approx(0.025 / 16)


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({"epochs": 1}, "0.667"),
        ({"epochs": 2, "accumulate": 2}, "0.833"),
        ({"epochs": 1, "accumulate": 4}, "0"),
    ],
)
def test_stages_that_would_never_be_unfrozen_are_refused(
    trained: Path, changes: dict[str, Any], last: str
) -> None:
    with pytest.raises(RecipeError, match=rf"init\.unfreeze: found 0\.9, .* begins after {last} of the run"):
        assembled(tuned(trained, {"frozen": 1, "unfreeze": 0.9}, **changes))


def test_stages_unfrozen_for_the_last_update_are_not(trained: Path) -> None:
    assembled(tuned(trained, {"frozen": 1, "unfreeze": 0.66}, epochs=1))


LOSSES_OF_ALL_KINDS = {
    "arcface": ([{"name": "arcface"}], {"head": "cosine"}),
    "center": ([{"name": "cross_entropy"}, {"name": "center"}], {}),
    "cam": ([{"name": "cross_entropy"}, {"name": "cam"}], {}),
    "asoftmax": ([{"name": "asoftmax"}], {"head": "unit-weight"}),
    "lgm": ([{"name": "lgm"}], {"head": "gaussian"}),
}


@pytest.mark.parametrize("name", sorted(LOSSES_OF_ALL_KINDS))
def test_losses_with_heads_and_parameters_of_their_own_train_from_a_start(trained: Path, name: str) -> None:
    losses, model = LOSSES_OF_ALL_KINDS[name]
    init = {"frozen": 1, "unfreeze": 0.5, "layer_decay": 0.5}
    plan, state = assembled(tuned(trained, init, loss=losses, model=model))
    start = {key: one.clone() for key, one in state.model.state_dict().items()}
    assert {group["lr"] / 0.05 for group in state.optimizer.param_groups} >= {1, 0.5, 0.25, 0.125, 0.0625}
    rates = {id(one): group["lr"] for group in state.optimizer.param_groups for one in group["params"]}
    assert all(rates[id(one)] == 0.05 for one in state.model.objective.parameters() if one.requires_grad)
    snapshots = Snapshots()
    fit(plan, state, checkpointer=snapshots, progress=Watcher())
    first, second = snapshots.epochs
    begun = {key.removeprefix("student."): one for key, one in start.items() if key.startswith("student.")}
    held = {key for key in begun if key.startswith(STEM_AND_FIRST)}
    assert not moved(begun, first) & held
    assert held <= moved(first, second)
    head = [key for key in moved(begun, first) if key.startswith("network.fc.")]
    assert head  # what the loss classifies by learns from the start
    learned = [key for key, one in state.model.objective.named_parameters() if one.requires_grad]
    assert all(
        not torch.equal(start[f"objective.{key}"], state.model.objective.state_dict()[key]) for key in learned
    )


def named_start(monkeypatch: pytest.MonkeyPatch, seed: int) -> str:
    """Let a name stand for published weights that a seed draws, in the place of a download."""
    original = build._from_timm

    def published(config: ModelConfig, name: str, *sizes: int) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return original(config.model_copy(update={"pretrained": False}), name, *sizes)

    monkeypatch.setitem(build._BUILDERS, "timm", published)
    return "resnet10t"


def test_an_unfinished_run_from_a_name_notices_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tuned(Path(named_start(monkeypatch, 1)), data={**SCENES, "image_size": 32})
    with pytest.raises(Interrupted):
        kdcam.finetune(recipe, output=tmp_path / "run", device="cpu", progress=Watcher(4))
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    digest = record["teacher_weights"]["resnet10t"]
    assert len(digest) == 64
    named_start(monkeypatch, 2)
    with pytest.raises(CheckpointError, match=r"an unfinished run under other weights of .* start resnet10t"):
        kdcam.finetune(recipe, output=tmp_path / "run", device="cpu")
    named_start(monkeypatch, 1)
    kdcam.finetune(recipe, output=tmp_path / "run", device="cpu")
    # Another seed draws another classifier, and the start is the same one.
    other = tuned(Path("resnet10t"), data={**SCENES, "image_size": 32}, seed=5, epochs=1)
    kdcam.finetune(other, output=tmp_path / "other", device="cpu")
    record = json.loads((tmp_path / "other" / "recipe.json").read_text())
    assert record["teacher_weights"] == {"resnet10t": digest}


def test_an_unfinished_run_whose_start_has_changed_or_gone_says_so(tmp_path: Path) -> None:
    start = tmp_path / "start"
    kdcam.train(small_recipe(epochs=1), output=start, device="cpu")
    with pytest.raises(Interrupted):
        kdcam.finetune(tuned(start), output=tmp_path / "run", device="cpu", progress=Watcher(4))
    weights = start / "model.safetensors"
    former = weights.read_bytes()
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    with pytest.raises(
        CheckpointError, match=r"an unfinished run under other weights of the teacher or start"
    ):
        kdcam.finetune(tuned(start), output=tmp_path / "run", device="cpu")
    start.rename(tmp_path / "moved")
    with pytest.raises(
        CheckpointError,
        match=r"start is not there; .* \(the unfinished run in .*run goes on only with what it began",
    ):
        kdcam.finetune(tuned(start), output=tmp_path / "run", device="cpu")
    with pytest.raises(CheckpointError, match=r"start is not there") as error:
        kdcam.finetune(tuned(start), output=tmp_path / "new", device="cpu")
    assert "the unfinished run" not in str(error.value)
    (tmp_path / "moved").rename(start)
    weights.write_bytes(former)
    assert not kdcam.finetune(tuned(start), output=tmp_path / "run", device="cpu").was_finished
