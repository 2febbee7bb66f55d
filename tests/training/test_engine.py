import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from default_float64 import wide
from small_runs import Watcher, kept_files, small_recipe
from torch import Tensor, nn

from kdcam.data.datasets import load_data
from kdcam.errors import TrainingError
from kdcam.losses.loss import Step
from kdcam.models.classifier import Classifier, TeacherOutputs
from kdcam.runs.run_folder import RunFolder
from kdcam.training.assembly import assemble
from kdcam.training.engine import Position, TrainState, train_step
from kdcam.training.preflight import preflight
from kdcam.training.teachers import live_teacher
from kdcam.training.training_run import run_training

CE_ONLY = [{"name": "cross_entropy"}]


def assembled(**changes: Any) -> tuple[Any, TrainState]:
    checked = preflight(small_recipe(**changes), device="cpu")
    return assemble(checked, load_data(checked.recipe.data))


def test_two_epochs_equal_a_plain_loop_bit_for_bit() -> None:
    plan, state = assembled(loss=CE_ONLY, schedule={"name": "constant"})
    plan_again, reference = assembled(loss=CE_ONLY, schedule={"name": "constant"})
    network = reference.model.student
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    state.model.train()
    network.train()
    for epoch in range(2):
        state.position = Position(epoch=epoch)
        for batch in plan.train.epoch(epoch):
            train_step(plan, state, batch)
            state.position.step += 1
        for batch in plan_again.train.epoch(epoch):
            optimizer.zero_grad()
            F.cross_entropy(network(batch.images), batch.targets).backward()
            optimizer.step()
    for (name, ours), theirs in zip(
        state.model.student.state_dict().items(), network.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


class LinearNetwork(nn.Module):
    """A network without BatchNorm, in timm's interface, so that gradients of halves add up."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, 10)

    def forward_features(self, images: Tensor) -> Tensor:
        return F.relu(self.convolution(images))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        embedding = features.mean((2, 3))
        return embedding if pre_logits else self.fc(embedding)

    def get_classifier(self) -> nn.Linear:
        return self.fc

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def test_accumulated_small_batches_equal_a_large_one() -> None:
    # 45 images: batches of 5 in groups of 3 see the same images as batches of 15, whatever is drawn per batch.
    changes = {
        "data": {
            "name": "digit-scenes",
            "image_size": 16,
            "train_size": 60,
            "test_size": 20,
            "validation": 0.25,
        }
    }
    small = run_steps(5, 3, changes)
    large = run_steps(15, 1, changes)
    for name, value in small.items():
        torch.testing.assert_close(value, large[name], rtol=1e-4, atol=1e-6)


def run_steps(batch_size: int, accumulate: int, changes: dict[str, Any]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = LinearNetwork()
    plan, state = assembled(
        batch_size=batch_size, accumulate=accumulate, loss=CE_ONLY, schedule={"name": "constant"}, **changes
    )
    state.model.student.network = network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    state.optimizer = optimizer
    state.schedule.optimizer = optimizer  # type: ignore[attr-defined]
    for batch in plan.train.epoch(0):
        train_step(plan, state, batch)
        state.position.step += 1
    return network.state_dict()


def test_clip_norm_bounds_the_gradient() -> None:
    plan, state = assembled(
        loss=CE_ONLY,
        clip_norm=1e-3,
        optimizer={"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0},
        schedule={"name": "constant"},
    )
    before = [parameter.detach().clone() for parameter in state.model.parameters()]
    train_step(plan, state, next(iter(plan.train.epoch(0))))
    moved = torch.cat([(a - b).flatten() for a, b in zip(state.model.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_moving_average_is_what_is_scored_and_kept(tmp_path: Path) -> None:
    result = run_small(tmp_path / "ema", ema_decay=0.5)
    import kdcam

    selected = kdcam.load(result).network.state_dict()
    last = kdcam.load(result, weights="last").network.state_dict()
    assert selected.keys() == last.keys()


def run_small(path: Path, **changes: Any) -> Path:
    checked = preflight(small_recipe(**changes), device="cpu")
    return run_training(checked, output=path, resume="auto", command=(), progress=Watcher()).path


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"name": "adamw", "lr": 0.001}},
        {"optimizer": {"name": "lion", "lr": 0.0001}, "schedule": {"name": "tanh", "warmup_epochs": 1}},
        {"schedule": {"name": "multistep", "milestones": [1]}, "precision": "bf16"},
        {"schedule": {"name": "step", "options": {"decay_epochs": 1}}, "accumulate": 2},
        {
            "data": {
                "name": "digit-scenes",
                "image_size": 16,
                "train_size": 60,
                "test_size": 20,
                "mixup": 0.2,
                "cutmix": 1.0,
            }
        },
    ],
    ids=["adamw", "timm-lion-tanh", "multistep-bf16", "step-accumulate", "mixup-cutmix"],
)
def test_whole_runs_of_many_kinds(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = run_small(tmp_path / "run", **changes)
    assert set(kept_files(path)) == {
        "model.safetensors",
        "config.json",
        "resume/state.safetensors",
        "result.json",
    }


def test_non_finite_loss_names_term_step_and_images_and_keeps_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdcam.losses.cam import CamLoss

    healthy = CamLoss.forward

    def breaks_late(self: CamLoss, step: Step) -> Tensor:
        value = healthy(self, step)
        return value * float("nan") if step.progress > 0.8 else value

    monkeypatch.setattr(CamLoss, "forward", breaks_late)
    with pytest.raises(
        TrainingError,
        match=r"epoch 2, step 3: the loss is not finite \(cam = nan\); training images of this batch: \d+",
    ):
        run_small(tmp_path / "run")
    monkeypatch.undo()
    # The state after epoch 1 is whole: the same command goes on and ends like a run that never broke.
    run_small(tmp_path / "run")
    run_small(tmp_path / "reference")
    assert kept_files(tmp_path / "run") == kept_files(tmp_path / "reference")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_an_epoch_whose_validation_logits_are_no_numbers_is_not_selected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    healthy = Classifier.forward  # in training the outputs are read, not this

    def breaks_late(self: Classifier, images: Tensor) -> Tensor:
        logits = healthy(self, images).clone()
        metrics = tmp_path / "run" / "metrics.jsonl"
        if metrics.exists() and metrics.read_text():  # the first epoch is done
            logits[:3, 1] = value
        return logits

    monkeypatch.setattr(Classifier, "forward", breaks_late)
    with pytest.raises(
        TrainingError,
        match=r"epoch 2, validation: scoring: the logits of 3 of \d+ images are not finite .*last saved state is whole",
    ):
        run_small(tmp_path / "run")
    monkeypatch.undo()
    run_small(tmp_path / "run")
    run_small(tmp_path / "reference")
    assert kept_files(tmp_path / "run") == kept_files(tmp_path / "reference")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_teacher_that_gives_no_numbers_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    teacher = run_small(tmp_path / "teacher", epochs=1)
    healthy = live_teacher.teacher_outputs

    def broken(*arguments: Any) -> TeacherOutputs:
        outputs = healthy(*arguments)
        assert outputs.logits is not None
        logits = outputs.logits.clone()
        logits[:2, 1] = value  # -inf leaves kd's loss finite
        return outputs._replace(logits=logits)

    monkeypatch.setattr(live_teacher, "teacher_outputs", broken)
    with pytest.raises(
        TrainingError,
        match=r"epoch 1, step 1: .*the outputs of a teacher are not finite for 2 of \d+ images; .*teacher's weights",
    ):
        run_small(tmp_path / "run", teacher={"checkpoint": str(teacher)}, loss=[{"name": "kd"}])


def test_best_epoch_is_selected_on_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import kdcam.training.engine as engine

    accuracies = iter([0.4, 0.9, 0.5])

    class Fake:
        def headline(self) -> dict[str, float]:
            return {"acc1": next(accuracies), "nll": 1.0}

    monkeypatch.setattr(engine, "score", lambda *_: Fake())
    checked = preflight(small_recipe(epochs=3), device="cpu")
    result = run_training(
        checked, output=tmp_path / "run", resume="auto", command=(), progress=Watcher()
    ).result
    assert result["selected"]["epoch"] == 2
    assert result["last"]["epoch"] == 3


def test_last_epoch_is_taken_without_validation(tmp_path: Path) -> None:
    data = {"name": "digit-scenes", "image_size": 16, "train_size": 60, "test_size": 20, "validation": 0.0}
    checked = preflight(small_recipe(select="last", data=data), device="cpu")
    result = run_training(
        checked, output=tmp_path / "run", resume="auto", command=(), progress=Watcher()
    ).result
    assert result["selected"]["epoch"] == result["last"]["epoch"] == 2
    assert result["selected"]["validation"] is None
    assert "nothing was selected on" in result["selection"]


def test_run_folder_holds_the_papers_of_the_run(tmp_path: Path) -> None:
    path = run_small(tmp_path / "run")
    recipe = small_recipe()
    with RunFolder.open(path, recipe.model_dump(mode="json")) as folder:
        assert folder.state == "finished"
    lines = folder.read_metrics()
    assert [line["epoch"] for line in lines] == [1, 2]
    assert set(lines[1]["train"]) == {"cross_entropy", "cam"}


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler")
def test_compiled_steps_give_the_same_numbers() -> None:
    totals = []
    for compiled in (False, True):
        plan, state = assembled(compile=compiled)
        state.model.double().train()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's compiler warns of its own deprecated calls
            batches = map(wide, plan.train.epoch(0))
            totals.append([float(train_step(plan, state, batch).total.detach()) for batch in batches])
        assert not any("_orig_mod" in name for name in state.model.state_dict())
    assert totals[1] == pytest.approx(totals[0], rel=1e-9)
