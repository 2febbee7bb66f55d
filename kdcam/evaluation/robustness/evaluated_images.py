"""Which images of a part are evaluated, in which batches, and their logits in eval mode and float32."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcam.attacks import input_gradient
from kdcam.data.batches.batch import Batch, Batches, ChangedBatches
from kdcam.errors import DataError
from kdcam.evaluation.robustness.partial_results import stop_with_results_kept
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.numerics import FiniteCheck, require_finite_outputs
from kdcam.runtime.progress import Progress, Silent


class PlacedBatch(NamedTuple):
    """Images with their positions among those that are evaluated."""

    positions: Tensor  # (N,) int64, on the CPU
    batch: Batch


def drawn_batches(found: Batches, positions: Tensor) -> Batches:
    """Return batches of some images of a part, which keep their positions in it as indices.

    Args:
        found: the batches of those images alone.
        positions: (N,) int64 on the CPU, theirs in the part, in the same order.
    """

    def placed(batch: Batch) -> Batch:
        return batch._replace(indices=positions[batch.indices.cpu()].to(batch.indices.device))

    return ChangedBatches(found, placed)


def images_to_attack(batches: Batches, n_examples: int) -> int:
    """Return how many images of a part are attacked: ``n_examples``, or all where there are fewer.

    Raises ``DataError`` where there is none.
    """
    if n_examples < 1:
        raise ValueError(f"n_examples is {n_examples}; wanted at least one image")
    if batches.num_images == 0:
        raise DataError("the part to attack has no image; choose another part")
    return min(n_examples, batches.num_images)


def first_batches(batches: Batches, images: int) -> Iterator[PlacedBatch]:
    """Yield the batches of a part's first images, the last one cut."""
    done = 0
    for batch in batches.epoch(0):
        placed = PlacedBatch(torch.arange(done, done + len(batch.indices)), batch)
        yield _cut(placed, slice(None, images - done))
        done += len(batch.indices)
        if done >= images:
            return


def rebatched(batches: Batches, wanted: Tensor) -> Iterator[PlacedBatch]:
    """Yield the images that are wanted, in batches as large as the part's own.

    What became of the images before leaves gaps; closing them keeps every batch full.

    Args:
        batches: the part, in order.
        wanted: (images,) bool on the CPU, of the part's first images.
    """
    if not bool(wanted.any()):
        return
    last = int(wanted.nonzero()[-1])
    held: PlacedBatch | None = None
    size = 0
    for positions, batch in first_batches(batches, last + 1):
        size = size or len(positions)
        chosen = wanted[positions]
        found = PlacedBatch(positions[chosen], chosen_images(batch, chosen))
        held = found if held is None else _joined(held, found)
        if len(held.positions) >= size:
            yield _cut(held, slice(None, size))
            held = _cut(held, slice(size, None))
    if held is not None and len(held.positions) > 0:
        yield held


def chosen_images(batch: Batch, chosen: Tensor) -> Batch:
    """Return some images of a batch, named by a mask or by their rows, on any device."""
    rows = chosen.to(batch.images.device)
    return Batch(batch.images[rows], batch.targets[rows], batch.indices[rows.to(batch.indices.device)])


def _joined(first: PlacedBatch, second: PlacedBatch) -> PlacedBatch:
    return PlacedBatch(
        torch.cat([first.positions, second.positions]),
        Batch(*(torch.cat(tensors) for tensors in zip(first.batch[:3], second.batch[:3], strict=True))),
    )


def _cut(placed: PlacedBatch, part: slice) -> PlacedBatch:
    return PlacedBatch(placed.positions[part], Batch(*(tensor[part] for tensor in placed.batch[:3])))


def zero_gradients(classifier: nn.Module, images: Tensor, targets: Tensor) -> int:
    """Return of how many images the gradient is zero everywhere, so that attacks cannot move them."""
    gradient = input_gradient(classifier, images, targets)
    return int((gradient == 0).flatten(1).all(1).sum())


def warn_of_zero_gradients(count: int, attacked: int, progress: Progress) -> None:
    """Warn where there are images, of those attacked, that attacks cannot move."""
    if count > 0:
        progress.warning(
            f"{count} of {attacked} attacked images have a zero gradient, so attacks that follow it "
            "cannot move them: these numbers do not show their robustness"
        )


def subset_text(images: int, *, whole: bool) -> str:
    """Return in words which images were attacked."""
    return (
        f"all {images} images of the part"
        if whole
        else f"the first {images} images of the part, in its order"
    )


def drawn_text(images: int, classes: int) -> str:
    """Return in words which images were attacked where they are those of
    `kdcam.data.splits.held_out.drawn_positions`."""
    if images < classes:
        return f"{images} images of the part, one of each of {images} drawn from its {classes} classes"
    return f"{images} images of the part, drawn evenly from its {classes} classes"


def logits_of(classifier: nn.Module, images: Tensor) -> Tensor:
    """Return the logits (N, K) of images, in eval mode and in float32; ``ModelError`` where they are not finite."""
    logits = unchecked_logits(classifier, images)
    require_finite_outputs(logits, "a batch of images")
    return logits


def is_right(classifier: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return for each image (N,) whether the top class is its label; errors as those of `logits_of`."""
    return logits_of(classifier, images).argmax(1) == labels


def unchecked_logits(classifier: nn.Module, images: Tensor) -> Tensor:
    """Return the logits (N, K) of images, in eval mode and in float32, finite or not."""
    autocast = torch.autocast(images.device.type, enabled=False)
    with eval_mode(classifier), torch.no_grad(), autocast:
        logits: Tensor = classifier(images)
    return logits


class LabelledLogits(NamedTuple):
    """What a classifier says of images, on the CPU."""

    logits: Tensor  # (N, K) float32
    targets: Tensor  # (N,) int64, or (N, K) float rows of several labels


def collect_logits(
    classifier: nn.Module,
    batches: Batches,
    *,
    task: str,
    n_examples: int | None = None,
    progress: Progress | None = None,
) -> LabelledLogits:
    """Return the logits and labels of a part, in its order; modes and random state stay as they were.

    Args:
        classifier: gives logits (N, K) for images in [0, 1].
        batches: evaluation batches on the classifier's device.
        task: what the work is called where its progress is shown.
        n_examples: the first so many images, or all where there are fewer or it is None.
        progress: who watches.

    Raises ``DataError`` where there is no image, ``ModelError`` where logits are not finite, naming of how many images,
    ``Interrupted`` where the watcher asks to stop.
    """
    watcher = progress or Silent()
    wanted = batches.num_images if n_examples is None else min(n_examples, batches.num_images)
    if wanted < 1:
        raise DataError(f"{task}: the part has no image to look at; choose another part")
    rows: list[tuple[Tensor, Tensor]] = []
    done, finite = 0, FiniteCheck()
    for batch in batches.epoch(0):
        stop_with_results_kept(watcher)
        images, targets = batch.images[: wanted - done], batch.targets[: wanted - done]
        logits = unchecked_logits(classifier, images)
        finite.take(logits)
        rows.append((logits.cpu(), targets.cpu()))
        done += len(images)
        watcher.advance(task, done, wanted)
        if done == wanted:
            break
    finite.require(task)
    logits, labels = (torch.cat(tensors) for tensors in zip(*rows, strict=True))
    return LabelledLogits(logits, labels)


__all__ = [
    "LabelledLogits",
    "PlacedBatch",
    "chosen_images",
    "collect_logits",
    "drawn_batches",
    "drawn_text",
    "first_batches",
    "images_to_attack",
    "is_right",
    "logits_of",
    "rebatched",
    "subset_text",
    "unchecked_logits",
    "warn_of_zero_gradients",
    "zero_gradients",
]
