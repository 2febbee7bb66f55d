"""Which images are attacked, and what is said of them: the same for one label an image and for several."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from kdcam.data.batches import Batch, Batches
from kdcam.errors import DataError, ModelError
from kdcam.modes import evaluating
from kdcam.progress import Progress
from kdcam.robustness.attacks import input_gradient


def images_to_attack(batches: Batches, attacks: Sequence[object], n_examples: int) -> int:
    """Return how many images of a part are attacked: ``n_examples``, or all where there are fewer.

    Raises ``DataError`` where there is none.
    """
    if not attacks or n_examples < 1:
        raise ValueError(f"{len(attacks)} attacks on {n_examples} images; wanted at least one of each")
    if batches.num_images == 0:
        raise DataError("the part to attack has no image; choose another part")
    return min(n_examples, batches.num_images)


def first_batches(batches: Batches, images: int, progress: Progress) -> Iterator[Batch]:
    """Yield the batches of a part's first images, the last one cut, and tell how many have been worked on."""
    done = 0
    for batch in batches.epoch(0):
        left = images - done
        yield Batch(batch.images[:left], batch.targets[:left], batch.indices[:left])
        done += min(left, len(batch.indices))
        progress.advance("attacks", done, images)
        if done == images:
            return


def logits_of(classifier: nn.Module, images: Tensor) -> Tensor:
    """Return the logits (N, K) of images, in eval mode and in float32; ``ModelError`` where they are not finite."""
    autocast = torch.autocast(images.device.type, enabled=False)
    with evaluating(classifier), torch.no_grad(), autocast:
        logits: Tensor = classifier(images)
    if not bool(logits.isfinite().all()):
        raise ModelError(
            "the network gives logits that are not finite; its weights are broken, train it again"
        )
    return logits


def zero_gradients(classifier: nn.Module, images: Tensor, targets: Tensor) -> int:
    """Return of how many images the gradient is zero everywhere, so that attacks cannot move them."""
    gradient = input_gradient(classifier, images, targets)
    return int((gradient == 0).flatten(1).all(1).sum())


def warn_of_zero_gradients(count: int, images: int, progress: Progress) -> None:
    """Warn where there are images that attacks cannot move."""
    if count > 0:
        progress.warning(
            f"{count} of {images} images have a zero gradient, so attacks that follow it "
            "cannot move them: these numbers do not show their robustness"
        )


def subset_text(images: int, *, whole: bool) -> str:
    """Return in words which images were attacked."""
    return (
        f"all {images} images of the part"
        if whole
        else f"the first {images} images of the part, in its order"
    )


__all__ = [
    "first_batches",
    "images_to_attack",
    "logits_of",
    "subset_text",
    "warn_of_zero_gradients",
    "zero_gradients",
]
