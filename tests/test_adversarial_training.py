"""Runs with an [adversary] table: Madry, TRADES, ARD and RSLAD steps, resumed runs, and robustness gained."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from default_float64 import wide
from long_tests import compile_quickly
from small_runs import SCENES, Watcher, kept_files, small_recipe
from torch import Tensor

import kdcam
from kdcam.attacks import pgd
from kdcam.data.batches.batch import Batch, Batches
from kdcam.data.datasets import describe_data, load_data
from kdcam.errors import Interrupted
from kdcam.losses import LOSSES
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier, TeacherOutputs
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.adversary_settings import AdversaryConfig
from kdcam.recipe.table_checks import HEAD_NEEDS
from kdcam.recipe.train_recipe import read_recipe
from kdcam.runs.checkpoint import save_model
from kdcam.training.adversarial_images import Adversary
from kdcam.training.assembly import assemble, evaluation_batches
from kdcam.training.engine import Plan, TrainState, train_step
from kdcam.training.preflight import preflight
from kdcam.training.teachers.live_teacher import LiveTeacher
from kdcam.training.training_run import run_training

QUICK: dict[str, Any] = {"eps": 0.1, "steps": 2, "alpha": 0.05}
CE: dict[str, Any] = {"name": "cross_entropy"}
CLEAN_CE = {**CE, "images": "clean"}
TRADES = {"adversary": {**QUICK, "maximise": "kl_to_clean"}, "loss": [CLEAN_CE, {"name": "kl_to_clean"}]}
KD = {"name": "kd", "temperature": 1.0}
RSLAD = {
    "adversary": {**QUICK, "maximise": "kl_to_teacher"},
    "loss": [{**KD, "weight": 5 / 6}, {**KD, "weight": 1 / 6, "images": "clean"}],
}
ARD = {"adversary": QUICK, "loss": [{"name": "kd", "weight": 0.9}, {**CLEAN_CE, "weight": 0.1}]}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("teacher")
    summary = describe_data(small_recipe().data)
    torch.manual_seed(1)
    network = build_classifier(
        ModelConfig(name="kdcam:resnet8"),
        num_classes=len(summary.label_names),
        in_channels=summary.channels,
        image_size=summary.image_size,
        label_names=summary.label_names,
    )
    save_model(folder, network)
    return str(folder)


def assembled(**changes: Any) -> tuple[Plan, TrainState]:
    checked = preflight(small_recipe(**changes), device="cpu")
    plan, state = assemble(checked, load_data(checked.recipe.data))
    state.model.train()
    return plan, state


def watch_reads(state: TrainState) -> list[tuple[Tensor, bool]]:
    """Keep the images that the student reads, each with whether it was in training mode then."""
    seen: list[tuple[Tensor, bool]] = []
    student = state.model.student

    def read(images: Tensor, *, stages: bool = False) -> Any:
        seen.append((images.detach().clone(), student.training))
        return student.outputs(images, stages=stages)

    state.model.read = state.model.read_attacked = read
    return seen


def first_batch(plan: Plan) -> Batch:
    return first_batch_of(plan.train)


def first_batch_of(batches: Batches) -> Batch:
    return next(iter(batches.epoch(0)))


def crafted(plan: Plan, state: TrainState, batch: Batch, *taught: TeacherOutputs) -> Tensor:
    assert plan.adversary is not None
    return plan.adversary.craft(
        state.model.student, state.model.student.outputs, batch, taught, epoch=0, step=0
    )


def test_a_trades_step_equals_one_written_by_hand() -> None:
    plan, state = assembled(**TRADES, schedule={"name": "constant"})
    again, reference = assembled(**TRADES, schedule={"name": "constant"})
    batch = first_batch(plan)
    attacked = crafted(again, reference, batch)
    student = reference.model.student
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    clean, adversarial = student(batch.images), student(attacked)
    natural = F.cross_entropy(clean, batch.targets)
    change = F.kl_div(adversarial.log_softmax(1), clean.softmax(1), reduction="sum") / len(batch.targets)
    (natural + 6 * change).backward()
    optimizer.step()

    terms = train_step(plan, state, batch)
    assert set(terms.values) == {"cross_entropy_clean", "kl_to_clean"}
    torch.testing.assert_close(terms.values["cross_entropy_clean"], natural.detach())
    torch.testing.assert_close(terms.values["kl_to_clean"], change.detach(), rtol=1e-4, atol=1e-7)
    for (name, ours), theirs in zip(
        state.model.student.state_dict().items(), student.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(
            ours, theirs, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_a_madry_step_reads_the_adversarial_images_alone() -> None:
    plan, state = assembled(adversary=QUICK, loss=[CE])
    batch = first_batch(plan)
    attacked = crafted(plan, state, batch)
    seen = watch_reads(state)
    terms = train_step(plan, state, batch)
    assert [training for _, training in seen] == [
        False,
        False,
        True,
    ]  # two steps of the attack, one of training
    assert torch.equal(seen[-1][0], attacked)
    assert set(terms.values) == {"cross_entropy"}
    assert all(torch.isfinite(value) for value in terms.values.values())


class Recorder:
    """A teacher that keeps the images that it is asked about."""

    def __init__(self, classifier: Classifier) -> None:
        self.live = LiveTeacher(classifier)
        self.images: list[Tensor] = []
        self.needs: list[frozenset[str]] = []

    def outputs(self, batch: Batch, needs: frozenset[str]) -> TeacherOutputs:
        self.images.append(batch.images)
        self.needs.append(needs)
        return self.live.outputs(batch, needs)


def recorded(plan: Plan) -> tuple[Plan, Recorder]:
    (live,) = plan.teachers
    assert isinstance(live, LiveTeacher)
    recorder = Recorder(live.classifier)
    return plan._replace(teachers=(recorder,)), recorder


@pytest.mark.parametrize("method", [ARD, RSLAD])
def test_the_teacher_sees_clean_images_and_the_student_adversarial_ones(
    method: dict[str, Any], teacher: str
) -> None:
    plan, state = assembled(**method, teacher={"checkpoint": teacher})
    plan, recorder = recorded(plan)
    batch = first_batch(plan)
    taught = recorder.live.outputs(batch, frozenset({"teacher.logits"}))
    attacked = crafted(plan, state, batch, taught)
    seen = watch_reads(state)
    train_step(plan, state, batch)
    assert [torch.equal(images, batch.images) for images in recorder.images] == [True]
    trained_on = [images for images, training in seen if training]
    assert len(trained_on) == 2
    assert torch.equal(trained_on[0], batch.images)
    assert torch.equal(trained_on[1], attacked)
    assert not torch.equal(attacked, batch.images)


def test_rslad_terms_are_the_divergences_of_both_images_from_the_clean_prediction(teacher: str) -> None:
    plan, state = assembled(**RSLAD, teacher={"checkpoint": teacher})
    again, reference = assembled(**RSLAD, teacher={"checkpoint": teacher})
    batch = first_batch(plan)
    (live,) = plan.teachers
    taught = live.outputs(batch, frozenset({"teacher.logits"}))
    assert taught.logits is not None
    target = taught.logits.softmax(1)
    attacked = crafted(again, reference, batch, taught)
    student = reference.model.student
    wanted = {
        name: F.kl_div(student(images).log_softmax(1), target, reduction="batchmean").detach()
        for name, images in (("kd_clean", batch.images), ("kd", attacked))
    }
    terms = train_step(plan, state, batch)
    torch.testing.assert_close(terms.values, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        terms.total.detach(), (5 * wanted["kd"] + wanted["kd_clean"]) / 6, rtol=1e-4, atol=1e-6
    )


def test_the_attack_asks_the_teacher_for_logits_that_no_loss_reads(teacher: str) -> None:
    changes = {"adversary": RSLAD["adversary"], "loss": [CE, {"name": "caam_cam"}]}
    plan, state = assembled(**changes, teacher={"checkpoint": teacher})
    plan, recorder = recorded(plan)
    train_step(plan, state, first_batch(plan))
    assert {"teacher.logits", "teacher.label_cam"} <= recorder.needs[0]


def test_a_teacher_that_the_attack_alone_reads(teacher: str) -> None:
    plan, state = assembled(adversary=RSLAD["adversary"], loss=[CE], teacher={"checkpoint": teacher})
    batch = first_batch(plan)
    (live,) = plan.teachers
    attacked = crafted(plan, state, batch, live.outputs(batch, frozenset({"teacher.logits"})))
    seen = watch_reads(state)
    train_step(plan, state, batch)
    assert torch.equal(seen[-1][0], attacked)


def test_nothing_is_crafted_before_a_term_on_adversarial_images_starts() -> None:
    late = {**TRADES, "loss": [CLEAN_CE, {"name": "kl_to_clean", "start": 0.5}]}
    plan, state = assembled(**late)
    batch = first_batch(plan)
    seen = watch_reads(state)
    terms = train_step(plan, state, batch)
    assert len(seen) == 1
    assert torch.equal(seen[0][0], batch.images)
    assert set(terms.values) == {"cross_entropy_clean"}
    state.position.epoch = plan.epochs - 1
    assert set(train_step(plan, state, batch).values) == {"cross_entropy_clean", "kl_to_clean"}
    assert len(seen) == 1 + 5  # of the clean images once for the attack; its two steps; both for the losses


def test_mixed_labels_several_labels_accumulation_and_averages_go_with_it() -> None:
    mixed = {**SCENES, "mixup": 0.2}
    several = {**SCENES, "image_size": 32, "multi_label": True}
    for changes in (
        {**TRADES, "data": mixed, "accumulate": 2, "ema_decay": 0.9, "clip_norm": 1.0},
        {
            "data": several,
            "task": "multi-label",
            "adversary": QUICK,
            "loss": [{"name": "binary_cross_entropy"}],
        },
        {"adversary": {"attack": "fgsm", "norm": "l2"}, "loss": [CE, {"name": "cam"}]},
    ):
        plan, state = assembled(**changes)
        for batch in plan.train.epoch(0):
            assert torch.isfinite(train_step(plan, state, batch).total)
            state.position.step += 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler")
@pytest.mark.long
def test_compiled_trades_gives_the_same_numbers_and_is_never_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compile_quickly(monkeypatch)
    totals = []
    for compiled in (False, True):
        plan, state = assembled(**TRADES, compile=compiled)
        state.model.double()
        limit = torch._dynamo.config.patch(
            fail_on_recompile_limit_hit=True, recompile_limit=6
        )  # torch's is 8
        with warnings.catch_warnings(), limit:
            warnings.simplefilter("ignore")  # torch's compiler warns of its own deprecated calls
            for epoch in range(2):
                batches = list(plan.train.epoch(epoch))
                assert [len(batch.indices) for batch in batches] == [16, 16, 13]
                for step, batch in enumerate(batches):
                    state.position.epoch, state.position.step = epoch, step
                    totals.append(float(train_step(plan, state, wide(batch)).total.detach()))
    assert totals[6:] == pytest.approx(totals[:6], rel=1e-9)


def test_bf16_trains_as_float32_does() -> None:
    totals = []
    for precision in ("fp32", "bf16"):
        plan, state = assembled(**TRADES, precision=precision)
        assert plan.precision.autocast().fast_dtype is torch.bfloat16 or precision == "fp32"
        totals.append([float(train_step(plan, state, batch).total.detach()) for batch in plan.train.epoch(0)])
        assert all(parameter.dtype is torch.float32 for parameter in state.model.parameters())
    assert totals[1] == pytest.approx(totals[0], rel=0.05)


ALONE = [name for name, kind in LOSSES.items() if "labels" in kind.takes and not kind.reads_teacher()]
OF_TEN_CLASSES: dict[str, Any] = {"gradient_boosting_cross_entropy": {"negatives": 3}}


@pytest.mark.parametrize("name", ALONE)
def test_every_loss_without_a_teacher_takes_adversarial_images(name: str) -> None:
    kind = LOSSES[name]
    heads = [head for need, head in HEAD_NEEDS.items() if need in kind.needs]
    model = {
        "name": "kdcam:resnet8_s2",
        "head": heads[0] if heads else "linear",
        "channel_attention": "channel_attention" in kind.needs,
    }
    loss = {"name": name, **OF_TEN_CLASSES.get(name, {})}
    losses = [loss] if kind.trains_classifier else [CE, loss]
    plan, state = assembled(adversary=QUICK, loss=losses, model=model)
    state.position.epoch = plan.epochs - 1  # all terms have started
    before = [parameter.detach().clone() for parameter in state.model.student.parameters()]
    terms = train_step(plan, state, first_batch(plan))
    assert name in terms.values
    assert torch.isfinite(terms.total)
    after = list(state.model.student.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(bool(torch.isfinite(parameter).all()) for parameter in after)


def do_run(path: Path, *, stop_after: int | None = None, **changes: Any) -> Watcher:
    watcher = Watcher(stop_after)
    checked = preflight(small_recipe(**changes), device="cpu")
    run_training(checked, output=path, resume="auto", command=(), progress=watcher)
    return watcher


@pytest.mark.parametrize("kind", ["trades", "rslad", "rslad from a cache"])
def test_stopped_at_any_step_it_ends_like_an_uninterrupted_run(
    tmp_path: Path, teacher: str, kind: str
) -> None:
    changes: dict[str, Any] = TRADES
    if kind != "trades":
        cache = {"cache": "views", "cache_folder": str(tmp_path / "cache")} if "cache" in kind else {}
        changes = {**RSLAD, "teacher": {"checkpoint": teacher, **cache}}
    do_run(tmp_path / "whole", **changes)
    for stop_after in (1, 4):
        path = tmp_path / f"stopped-{stop_after}"
        with pytest.raises(Interrupted, match="the same command goes on"):
            do_run(path, stop_after=stop_after, **changes)
        do_run(path, **changes)
        assert kept_files(path) == kept_files(tmp_path / "whole")


def test_a_network_trained_by_madry_stands_more_attacks_than_a_plain_one(tmp_path: Path) -> None:
    table: dict[str, Any] = {
        "epochs": 6,
        "batch_size": 64,
        "data": {"name": "digits"},
        "model": {"name": "kdcam:resnet8_s2"},
        "optimizer": {"name": "adamw", "lr": 0.003},
    }
    robust = {**table, "adversary": {"eps": 0.15, "steps": 5, "alpha": 0.06}}
    clean, attacked = {}, {}
    for name, recipe in {"plain": table, "robust": robust}.items():
        checked = preflight(read_recipe(recipe, source=name), device="cpu")
        run_training(checked, output=tmp_path / name, resume="auto", command=(), progress=Watcher())
        test = load_data(checked.recipe.data).test
        assert test is not None
        batch = first_batch_of(evaluation_batches(checked, test))
        classifier = kdcam.load(tmp_path / name)
        images = pgd(classifier, batch.images, batch.targets, eps=0.15, alpha=0.02, steps=20)
        clean[name] = accuracy(classifier, batch.images, batch.targets)
        attacked[name] = accuracy(classifier, images, batch.targets)
    assert clean["plain"] > 0.9
    assert clean["robust"] > 0.8
    assert attacked["robust"] > attacked["plain"] + 0.2


def accuracy(classifier: Classifier, images: Tensor, targets: Tensor) -> float:
    with torch.no_grad():
        return float((classifier(images).argmax(1) == targets).float().mean())


def test_the_adversary_of_a_run_has_the_recipes_settings_and_seed() -> None:
    plan, _ = assembled(adversary=QUICK, loss=[CE], seed=5)
    assert plan.adversary == Adversary(AdversaryConfig(**QUICK), "single-label", 5)
    assert assembled()[0].adversary is None
