"""Book-keeping on loss terms: means over an epoch, each term's share of the sum, the search for a non-finite one."""

from collections.abc import Mapping
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

from kdcam.data.batches.batch import Batch
from kdcam.errors import TrainingError
from kdcam.losses.loss import LossTerms
from kdcam.runtime.progress import Progress

SHARE_STEPS = 50  # steps after which the shares of the terms are told (kdcam's choice)
SMALL_SHARE, LARGE_SHARE = 0.01, 0.99


class TermMeans:
    """Means of the loss terms over the images of an epoch, kept on the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.images: dict[str, int] = {}  # that each term has seen; a term may start within an epoch

    def add(self, terms: LossTerms, *, images: int) -> None:
        """Add the terms of one step."""
        for name, value in terms.values.items():
            product = _wide(value) * images
            self.sums[name] = self.sums[name] + product if name in self.sums else product
            self.images[name] = self.images.get(name, 0) + images

    def means(self) -> dict[str, float]:
        """Return each term's mean, before its weight (on a GPU the host waits for it)."""
        return {name: float(total) / self.images[name] for name, total in self.sums.items()}

    def state_dict(self) -> dict[str, object]:
        """Return the sums so far."""
        return {"sums": dict(self.sums), "images": dict(self.images)}

    def load_state_dict(self, state: Mapping[str, dict[str, object]]) -> None:
        """Take back the sums of a run that was cut off within an epoch; ``TypeError`` where they are none."""
        sums = {name: total for name, total in state["sums"].items() if _is_sum(total)}
        images = {name: count for name, count in state["images"].items() if type(count) is int and count > 0}
        if not sums.keys() == images.keys() == state["sums"].keys() == state["images"].keys():
            raise TypeError("the sums of the loss terms are not those of images")
        self.sums, self.images = sums, images


def _is_sum(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.ndim == 0


class ShareWatch:
    """Tells, some steps after each start of a term, each term's share of the sum; warns of a tiny or huge one."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.weights: dict[str, float] = {}
        self.steps = 0
        self.sums: dict[str, Tensor] = {}

    def take(self, terms: LossTerms) -> None:
        """Take the terms of one step."""
        active = {name: weight for name, weight in terms.weights.items() if weight > 0}
        if active != self.weights:  # a start, or a step of a warm-up, at whose end the shares are of interest
            self.weights, self.steps, self.sums = active, 0, {}
        if len(active) < 2 or self.steps >= SHARE_STEPS:
            return
        self.steps += 1
        for name in active:
            size = _wide(terms.values[name] * terms.weights[name]).abs()
            self.sums[name] = self.sums[name] + size if name in self.sums else size
        if self.steps == SHARE_STEPS:
            self._tell()

    def _tell(self) -> None:
        sizes = {name: float(size) for name, size in sorted(self.sums.items())}
        total = sum(sizes.values())
        if total == 0:
            return
        shares = {name: size / total for name, size in sizes.items()}
        words = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
        self.progress.message(f"share of each term in the loss over {SHARE_STEPS} steps: {words}")
        for name, share in shares.items():
            if share < SMALL_SHARE or share > LARGE_SHARE:
                self.progress.warning(
                    f"loss {name}: {share:.2%} of the sum; change its weight (now {self.weights[name]:g}) unless this "
                    "is what you want"
                )


def _wide(value: Tensor) -> Tensor:
    return value.float() if value.device.type == "mps" else value.double()  # Apple's GPUs have no float64


class StepTrace(NamedTuple):
    """A step whose loss has not been looked at yet."""

    epoch: int  # counted from 1
    step: int  # in the epoch, counted from 1
    total: Tensor
    values: Mapping[str, Tensor]
    indices: Tensor
    broken: Tensor  # as in `LossTerms`


def trace(terms: LossTerms, batch: Batch, *, epoch: int, step: int) -> StepTrace:
    """Return what is needed to tell later where a loss was not finite."""
    broken = terms.broken
    if broken is None:
        broken = torch.zeros(1, dtype=torch.int64, device=terms.total.device)
    return StepTrace(epoch, step, terms.total.detach(), terms.values, batch.indices, broken)


# Why losses are looked at only now and then on a GPU: docs/decisions/004.
def require_finite(steps: list[StepTrace]) -> None:
    """Raise ``TrainingError`` naming term, step and batch indices of the first step that is not finite.

    That is its loss, or what the student or a teacher said of an image: an infinite logit may leave a loss finite.
    On a GPU the host waits once for all steps.
    """
    if not steps or bool(torch.stack([_is_finite(step) for step in steps]).all()):
        return
    first = next(step for step in steps if not bool(_is_finite(step)))
    indices, counts = first.indices.tolist(), first.broken.tolist()
    shown = ", ".join(map(str, indices[:16])) + (f" ... ({len(indices)} in all)" if len(indices) > 16 else "")
    # Where a teacher's outputs are not finite the student's weights are not to blame.
    way_out = (
        'check the teacher\'s weights (kdcam evaluate), or use precision = "fp32"'
        if any(counts[1:])
        else 'lower the learning rate, clip the gradient (--set clip_norm=1), or use precision = "fp32"'
    )
    raise TrainingError(
        f"epoch {first.epoch}, step {first.step}: {_what_is_broken(first)}; training images of this batch: {shown}. "
        f"The last saved state is whole; {way_out}"
    )


def _is_finite(step: StepTrace) -> Tensor:
    return torch.isfinite(step.total) & (step.broken == 0).all()


def _what_is_broken(step: StepTrace) -> str:
    bad = [
        f"{name} = {float(value)}" for name, value in step.values.items() if not bool(torch.isfinite(value))
    ]
    student, *teachers = step.broken.tolist()
    said = [
        f"the outputs of {who} are not finite for {count} of {len(step.indices)} images"
        for who, count in (("the student", student), ("a teacher", max(teachers, default=0)))
        if count
    ]
    if not bool(torch.isfinite(step.total)):
        said.insert(0, f"the loss is not finite ({', '.join(bad) or 'the weighted sum'})")
    return "; ".join(said)


def require_finite_weights(model: nn.Module, *, epoch: int, step: int) -> None:
    """Raise ``TrainingError`` naming the first parameter that is not finite; asked before anything is saved.

    A loss may be finite where its gradient is not: then only the next loss would show it, after a broken state
    has been saved. ``epoch`` and ``step`` are counted from 1; on a GPU the host waits once.
    """
    named = dict(model.named_parameters())
    finite = torch.stack([parameter.isfinite().all() for parameter in named.values()])
    if bool(finite.all()):
        return
    name = next(name for name, good in zip(named, finite.tolist(), strict=True) if not good)
    raise TrainingError(
        f"epoch {epoch}, step {step}: {name} is not finite after the update, so a gradient was not. The last saved "
        "state is whole; lower the learning rate, clip the gradient (--set clip_norm=1), or use "
        'precision = "fp32"'
    )


__all__ = ["ShareWatch", "StepTrace", "TermMeans", "require_finite", "require_finite_weights", "trace"]
