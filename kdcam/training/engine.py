"""The one training engine: fit -> train_epoch -> train_step. It knows no method, no file format and no command line."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from kdcam.data.batches.augmentation import Mixing
from kdcam.data.batches.batch import Batch, Batches
from kdcam.errors import Interrupted, ModelError, TrainingError
from kdcam.losses.loss import LossTerms, Objective, Step
from kdcam.models.classifier import Classifier, Outputs, TeacherOutputs
from kdcam.models.layer_groups import FrozenStages
from kdcam.optim.schedule import Schedule
from kdcam.runtime.numerics import broken_rows
from kdcam.runtime.precision import Precision
from kdcam.runtime.progress import EpochRecord, Progress, StepRecord
from kdcam.scores.classification import score
from kdcam.training.adversarial_images import Adversary
from kdcam.training.loss_terms import (
    ShareWatch,
    StepTrace,
    TermMeans,
    require_finite,
    require_finite_weights,
    trace,
)

CHECK_EVERY = 16  # steps between two looks at the losses on a GPU, where each look makes the host wait
SHOW_EVERY_SECONDS = 0.25
SAVE_EVERY_SECONDS = 600.0  # within an epoch; every epoch's end is saved as well


class Trainable(nn.Module):
    """Student and objective as one module: all that learns, wrapped and saved together; the teacher stays outside."""

    def __init__(self, student: Classifier, objective: Objective, *, compiled: bool = False) -> None:
        super().__init__()
        self.student = student
        self.objective = objective
        # The method, not the module, is compiled: names in state dicts stay without a prefix.
        self.read = torch.compile(student.outputs) if compiled else student.outputs
        # Graphs of training and of attacks (modes, gradients, last batches) would together meet the compiler's limit of
        # 8 for one function, past which it compiles no more.
        self.read_attacked = torch.compile(self._read_attacked) if compiled else self._read_attacked

    def _read_attacked(self, images: Tensor) -> Outputs:
        return self.student.outputs(images)

    def forward(
        self,
        batch: Batch,
        progress: float,
        taught: Sequence[TeacherOutputs] = (),
        clean_images: Tensor | None = None,
    ) -> LossTerms:
        """Return the loss terms of a batch at a fraction of the run in [0, 1].

        Args:
            batch: what the student is trained on.
            progress: 0 at the start of the run, 1 at its end.
            taught: by each teacher.
            clean_images: the batch's before an attack, where a loss reads what the student says of them.
        """
        stages = bool(self.objective.needs & {"stages", "published_stages"})
        clean = None if clean_images is None else self.read(clean_images, stages=stages)
        same = clean_images is batch.images  # nothing was attacked
        outputs = clean if same and clean is not None else self.read(batch.images, stages=stages)
        first = taught[0] if taught else None
        step = Step(outputs, first, batch.targets, batch.indices, progress, clean)
        terms: LossTerms = self.objective(step, taught[1:])
        of_student = [outputs.logits] if clean is None else [outputs.logits, clean.logits]
        checked = [of_student, *map(_checked_outputs, taught)]
        # Teachers whose terms are off say nothing.
        return terms._replace(broken=torch.stack([_broken_images(one) for one in checked if one]))


def _checked_outputs(taught: TeacherOutputs) -> list[Tensor]:
    """Return what is looked at of a teacher's outputs: of its stages, which are large, the last, which follows from the
    others."""
    found = (taught.logits, taught.label_cam, taught.class_cams, taught.feature_map, taught.embedding)
    return [tensor for tensor in (*found, *taught.stages[-1:]) if tensor is not None]


def _broken_images(outputs: Sequence[Tensor]) -> Tensor:
    """Return of how many images some output is not finite, int64; a GPU is not waited for."""
    return torch.stack([broken_rows(tensor) for tensor in outputs]).any(0).sum()


class Teacher(Protocol):
    """Says what the losses need to know of a batch."""

    def outputs(self, batch: Batch, needs: frozenset[str]) -> TeacherOutputs:
        """Return what ``needs`` names of a batch, on its device and without gradient.

        ``needs`` are the losses'; only names that begin with ``teacher.`` count.
        """


class Plan(NamedTuple):
    """What stays as it is during a run."""

    epochs: int
    accumulate: int
    clip_norm: float  # 0: off
    selects_best: bool  # on validation; otherwise the last epoch is selected
    train: Batches
    validation: Batches | None
    teachers: tuple[Teacher, ...]
    precision: Precision
    mixing: Mixing | None
    adversary: Adversary | None = None
    frozen: FrozenStages | None = None


@dataclass
class Position:
    """Where a run stands."""

    epoch: int = 0  # epochs finished
    step: int = 0  # steps done in the running epoch
    seconds: float = 0.0  # spent on the running epoch
    best_epoch: int = 0  # counted from 1; 0: none yet
    best: dict[str, float] = field(default_factory=dict)  # validation scores of the best epoch


@dataclass
class TrainState:
    """What moves during a run; all of it is needed to go on bit for bit."""

    model: Trainable
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    ema: Any | None  # timm's ModelEmaV3 of the student
    means: TermMeans
    position: Position

    @property
    def scored(self) -> Classifier:
        """The student that is scored, selected and exported: the moving average where there is one."""
        student: Classifier = self.model.student if self.ema is None else self.ema.module
        return student


class EpochClock:
    """The clock of one epoch."""

    def __init__(self, *, epoch: int, epochs: int, step: int, steps: int, seconds: float) -> None:
        """Start the clock at ``step`` of an epoch (both counted from 0) that has already taken ``seconds``."""
        self.epoch, self.epochs, self.step, self.steps = epoch, epochs, step, steps
        self.earlier_seconds = seconds
        self.started = self.shown = self.saved = time.monotonic()
        self.first_step = step
        self.images = 0

    def tick(self, images: int) -> None:
        """Count a step."""
        self.step += 1
        self.images += images

    @property
    def seconds(self) -> float:
        """Seconds of the epoch so far, those before an interruption included."""
        return self.earlier_seconds + time.monotonic() - self.started

    @property
    def images_per_second(self) -> float:
        """Training images a second in this epoch, since the run was started or resumed."""
        return self.images / max(time.monotonic() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float:
        """Seconds to the end of the run at the throughput of this epoch."""
        a_step = (time.monotonic() - self.started) / max(self.step - self.first_step, 1)
        return a_step * (self.steps - self.step + self.steps * (self.epochs - self.epoch - 1))

    def shows_now(self) -> bool:
        """Return whether it is time to show where the run stands."""
        now = time.monotonic()
        if now - self.shown < SHOW_EVERY_SECONDS and self.step < self.steps:
            return False
        self.shown = now
        return True

    def saves_now(self) -> bool:
        """Return whether it is time to save the state within the epoch."""
        now = time.monotonic()
        if now - self.saved < SAVE_EVERY_SECONDS:
            return False
        self.saved = now
        return True

    def record(self, terms: dict[str, float]) -> StepRecord:
        """Return where the run stands."""
        return StepRecord(
            self.epoch + 1,
            self.epochs,
            self.step,
            self.steps,
            terms,
            self.images_per_second,
            self.seconds_left,
        )


class Checkpointer(Protocol):
    """Saves a run's states and results somewhere."""

    def save(self, state: TrainState) -> None:
        """Save all that a resumed run needs."""

    def select(self, state: TrainState) -> None:
        """Save the weights as they are now as the selected ones."""

    def record(self, record: EpochRecord) -> None:
        """Save the result of an epoch."""


def fit(plan: Plan, state: TrainState, *, checkpointer: Checkpointer, progress: Progress) -> None:
    """Train from where ``state`` stands to the last epoch; score, select and save after each epoch.

    Raises ``TrainingError`` when a loss or an output is no longer finite and ``Interrupted`` when the watcher asks to
    stop; the last saved state stays good in both cases.
    """
    watch = ShareWatch(progress)
    while state.position.epoch < plan.epochs:
        clock = train_epoch(plan, state, watch=watch, checkpointer=checkpointer, progress=progress)
        finish_epoch(plan, state, clock=clock, checkpointer=checkpointer, progress=progress)


def train_epoch(
    plan: Plan, state: TrainState, *, watch: ShareWatch, checkpointer: Checkpointer, progress: Progress
) -> EpochClock:
    """Train on what is left of the running epoch and return its clock."""
    place = state.position
    steps = len(plan.train)
    clock = EpochClock(
        epoch=place.epoch, epochs=plan.epochs, step=place.step, steps=steps, seconds=place.seconds
    )
    unchecked: list[StepTrace] = []
    state.model.train()
    for batch in plan.train.epoch(place.epoch, start_batch=place.step):
        terms = train_step(plan, state, batch)
        unchecked.append(trace(terms, batch, epoch=place.epoch + 1, step=place.step + 1))
        check_now = not plan.precision.waits or len(unchecked) == CHECK_EVERY
        state.means.add(terms, images=len(batch.indices))
        place.step += 1
        watch.take(terms)
        clock.tick(len(batch.indices))
        # Half a group of accumulated gradients is not saved, so a run pauses only after an update.
        updated = _group_ends(place.step - 1, steps, plan.accumulate)
        stops, saves = updated and progress.should_stop(), updated and clock.saves_now()
        if check_now or stops or saves or place.step == steps:
            require_finite(unchecked)
            unchecked.clear()
        if stops or saves or place.step == steps:
            require_finite_weights(state.model, epoch=place.epoch + 1, step=place.step)
        if clock.shows_now():
            progress.step(clock.record(state.means.means()))
        if stops or saves:
            place.seconds = clock.seconds
            checkpointer.save(state)
        if stops:
            raise Interrupted(f"stopped in epoch {place.epoch + 1} after {place.step} of {steps} steps")
    return clock


def train_step(plan: Plan, state: TrainState, batch: Batch) -> LossTerms:
    """Do one forward and backward pass, and an update where the step completes a group of ``accumulate``."""
    step, steps = state.position.step, len(plan.train)
    epoch = state.position.epoch + step / steps
    if plan.mixing is not None:
        batch = plan.mixing(batch)
    progress = epoch / plan.epochs
    if plan.frozen is not None and step % plan.accumulate == 0:
        plan.frozen.hold(progress)  # not within a group, whose gradients are averaged
    with plan.precision.autocast():
        taught = _teach(plan, state, batch, progress)
    clean_images = None
    if plan.adversary is not None:
        batch, clean_images = _attack(plan.adversary, state, batch, taught, progress)
    with plan.precision.autocast():
        terms: LossTerms = state.model(batch, progress, taught, clean_images)
    group = _group_size(step, steps, plan.accumulate)
    state.scaler.scale(terms.total / group).backward()
    if _group_ends(step, steps, plan.accumulate):
        state.schedule.before_update(epoch)
        _update(plan, state)
    return terms


def _group_size(step: int, steps: int, accumulate: int) -> int:
    """Return how many steps share the update that a step belongs to; an epoch's last group may be smaller."""
    first = step // accumulate * accumulate
    return min(accumulate, steps - first)


def _group_ends(step: int, steps: int, accumulate: int) -> bool:
    return (step + 1) % accumulate == 0 or step + 1 == steps


def _teach(plan: Plan, state: TrainState, batch: Batch, progress: float) -> list[TeacherOutputs]:
    needs = state.model.objective.needs_at(progress)
    if plan.adversary is not None:
        needs |= plan.adversary.config.needs
    return [teacher.outputs(batch, needs) for teacher in plan.teachers]


def _attack(
    adversary: Adversary, state: TrainState, batch: Batch, taught: Sequence[TeacherOutputs], progress: float
) -> tuple[Batch, Tensor | None]:
    """Return the batch with the images that losses train on, and the clean images where a loss reads them too."""
    model, place = state.model, state.position
    read = model.objective.images_at(progress)
    clean_images = batch.images if "clean" in read else None
    if "trained" not in read:  # the terms on adversarial images start later
        return batch, clean_images
    images = adversary.craft(
        model.student, model.read_attacked, batch, taught, epoch=place.epoch, step=place.step
    )
    return batch._replace(images=images), clean_images


def _update(plan: Plan, state: TrainState) -> None:
    if plan.clip_norm > 0:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), plan.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        state.ema.update(state.model.student)


def finish_epoch(
    plan: Plan, state: TrainState, *, clock: EpochClock, checkpointer: Checkpointer, progress: Progress
) -> None:
    """Score the validation part, select, and save results and state, in an order that a kill at any moment survives.

    The selected weights and the line of results are saved before the state: if the run is killed in between,
    the epoch is done again and writes the same ones.
    """
    place = state.position
    terms = state.means.means()
    validation = _validation_scores(plan, state)
    learning_rate = state.optimizer.param_groups[0]["lr"]
    state.schedule.after_epoch(place.epoch + 1)
    best = not plan.selects_best or _rank(validation) > _rank(place.best)
    if best:
        place.best_epoch, place.best = place.epoch + 1, dict(validation)
        checkpointer.select(state)
    record = EpochRecord(
        epoch=place.epoch + 1,
        epochs=plan.epochs,
        step=(place.epoch + 1) * len(plan.train),
        learning_rate=learning_rate,
        terms=terms,
        validation=validation,
        images_per_second=clock.images_per_second,
        seconds=clock.seconds,
        seconds_left=clock.seconds_left,
        best=best,
    )
    checkpointer.record(record)
    place.epoch, place.step, place.seconds = place.epoch + 1, 0, 0.0
    state.means = TermMeans()
    checkpointer.save(state)
    progress.epoch(record)
    for warning in state.model.objective.diagnose(terms):
        progress.warning(warning)


def _validation_scores(plan: Plan, state: TrainState) -> dict[str, float]:
    """Return the validation scores; ``TrainingError`` where the student's outputs are not finite: none is selected."""
    if plan.validation is None:
        return {}
    try:
        return score(state.scored, plan.validation).headline()
    except ModelError as error:
        raise TrainingError(
            f"epoch {state.position.epoch + 1}, validation: {error}. The last saved state is whole"
        ) from error


def _rank(validation: Mapping[str, float]) -> tuple[float, float]:
    """Return what a selection compares: top-1 accuracy (mean average precision of several labels), then the nll."""
    accuracy = validation.get("acc1", validation.get("mean_ap", -1.0))
    return accuracy, -validation.get("nll", float("inf"))


__all__ = [
    "Checkpointer",
    "EpochClock",
    "Plan",
    "Position",
    "Teacher",
    "TrainState",
    "Trainable",
    "finish_epoch",
    "fit",
    "train_epoch",
    "train_step",
]
