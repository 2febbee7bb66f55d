"""Stages of a network that stay as they are for a while: no gradient, and all in them in eval mode."""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from kdcam.errors import ModelError
from kdcam.models.classifier import Classifier
from kdcam.models.init_config import InitConfig
from kdcam.models.layer_groups import stage_count, stage_depths
from kdcam.models.weights.starting_weights import logits_layer_name


class FrozenStages(NamedTuple):
    """The part of a student that does not learn until a fraction of the run."""

    parameters: tuple[nn.Parameter, ...]
    modules: tuple[nn.Module, ...]  # all that holds them and nothing else, with what runs between them
    until: float  # the fraction of the run from which they learn; 1: never

    def hold(self, progress: float) -> None:
        """Freeze or free the stages, as they are at a fraction of the run in [0, 1).

        To be called after ``train()`` of the student, which puts frozen BatchNorms back to learning. It follows from
        ``progress`` alone, so that a resumed run needs no state. An optimiser skips parameters without gradient:
        neither decay nor momentum moves them, and their own state begins with their first gradient.
        """
        learns = progress >= self.until
        for parameter in self.parameters:
            parameter.requires_grad_(learns)
        for module in self.modules:
            module.train(learns)


def frozen_stages(student: Classifier, config: InitConfig) -> FrozenStages | None:
    """Return what an [init] table freezes of a student; None: nothing. The student stays as it is.

    Raises ``ModelError`` where the network has no such stages or no classifier to leave out.
    """
    if config.frozen == "none":
        return None
    names = _all_but_classifier(student) if config.frozen == "all" else _first(student, config.frozen)
    frozen = tuple(parameter for name, parameter in student.network.named_parameters() if name in names)
    return FrozenStages(frozen, tuple(_modules_of(student.network, set(map(id, frozen)))), config.unfreeze)


def _all_but_classifier(student: Classifier) -> set[str]:
    head = logits_layer_name(student.network)
    if head is None:
        raise ModelError(
            f'init.frozen: found "all", but {student.config.name!r} has no single layer that gives the logits and '
            "could learn alone; give a number of stages, or take another network"
        )
    return {name for name, _ in student.network.named_parameters() if not name.startswith(f"{head}.")}


def _first(student: Classifier, count: int) -> set[str]:
    stages = stage_count(student.network)
    if count > stages:
        raise ModelError(
            f"init.frozen: found {count}, but {student.config.name!r} has {stages} stages; give at most {stages}, or "
            '"all" to train the classifier alone'
        )
    return {name for name, depth in stage_depths(student.network).items() if depth <= count}


def _modules_of(module: nn.Module, frozen: set[int]) -> Iterator[nn.Module]:
    """Yield the largest modules below one that hold frozen parameters alone, and those without parameters before them.

    Modules stand in the order in which they run: a dropout before a frozen block (pos_drop of a vision transformer)
    is a part of what is frozen, one behind the last (before the classifier) is not.
    """
    children = list(module.children())
    held = [[id(parameter) in frozen for parameter in child.parameters()] for child in children]
    last = max((index for index, found in enumerate(held) if any(found)), default=-1)
    for index, (child, found) in enumerate(zip(children, held, strict=True)):
        if all(found) and index <= last:
            yield child
        elif any(found):
            yield from _modules_of(child, frozen)


__all__ = ["FrozenStages", "frozen_stages"]
