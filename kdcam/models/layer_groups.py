"""A network's parameters in order of depth: stages frozen for a while, and finer groups with learning rates."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import nn

from kdcam.errors import ModelError
from kdcam.models.classifier import Classifier
from kdcam.models.heads import logits_layer_name
from kdcam.models.model_config import InitConfig
from kdcam.models.necks import Necked

_POOLINGS = (nn.MaxPool2d, nn.AvgPool2d)


def stage_depths(network: nn.Module) -> dict[str, int]:
    """Return the depth of each parameter by its name: 0 the stem, then the stages, last the neck and the classifier.

    The stages are timm's own (``group_matcher(coarse=True)``); of networks without it (kdcam's, torchvision's) the
    containers that they are made of, in order, a layer behind one counted to it. The stages of torchvision's network
    need not be those of timm's network of the same name: what n stages hold of one, they need not hold of the other.
    """
    return _depths(network, coarse=True)


def layer_depths(network: nn.Module) -> dict[str, int]:
    """Return the depth of each parameter in finer groups, usually blocks, counted as in `stage_depths`.

    They are those by which timm's ``param_groups_layer_decay`` scales learning rates.
    """
    return _depths(network, coarse=False)


def stage_count(network: nn.Module) -> int:
    """Return how many stages a network has between its stem and its classifier."""
    return max(stage_depths(network).values(), default=0) - 1


def layer_scales(network: nn.Module, layer_decay: float) -> dict[str, float]:
    """Return the factor of each parameter's learning rate by its name: 1 of the classifier, times decay a group down.

    Source: Bao et al. 2022, "BEiT" (arXiv 2106.08254), in the form of timm's ``param_groups_layer_decay``.
    """
    depths = layer_depths(network)
    deepest = max(depths.values(), default=0)
    return {name: layer_decay ** (deepest - depth) for name, depth in depths.items()}


def _depths(network: nn.Module, *, coarse: bool) -> dict[str, int]:
    body: Any = network.body if isinstance(network, Necked) else network
    prefix = "body." if isinstance(network, Necked) else ""
    if hasattr(body, "group_matcher"):
        from timm.models import group_parameters  # here: it takes seconds

        found: Mapping[str, int] = group_parameters(body, body.group_matcher(coarse=coarse), reverse=True)
    else:
        groups = _groups(body, coarse=coarse)
        found = {name: _depth_of(name, groups) for name, _ in body.named_parameters()}
    last = max(found.values(), default=0)
    head = logits_layer_name(network)
    return {
        name: last
        if head is not None and name.startswith(f"{head}.")
        else found.get(name.removeprefix(prefix), last)  # a neck is as deep as the classifier
        for name, _ in network.named_parameters()
    }


def _depth_of(name: str, groups: list[list[str]]) -> int:
    depths = (depth for depth, names in enumerate(groups) if any(name.startswith(f"{one}.") for one in names))
    return next(depths, 0)  # a parameter of the network's own, such as a class token


def _groups(network: nn.Module, *, coarse: bool) -> list[list[str]]:
    """Return the names of the modules of each group, shallow to deep; the last holds the classifier."""
    head = logits_layer_name(network)
    parts = list(_parts(network))
    is_head = [head is not None and f"{head}.".startswith(f"{name}.") for name, _ in parts]
    groups = [list[str]()]
    containers = 0
    for (name, module), holds_head in zip(parts, is_head, strict=True):
        if holds_head or not any(True for _ in module.parameters()):
            # A pooling ends a stage of layers that no container holds (VGG).
            if isinstance(module, _POOLINGS) and groups[-1] and not containers:
                groups.append([])
        elif next(module.children(), None) is None:
            groups[-1].append(name)
        else:
            containers += 1
            for one in [[name]] if coarse else _blocks(name, module):
                groups.append(one)
    stages = [group for group in groups if group]
    return [*stages, [name for (name, _), holds_head in zip(parts, is_head, strict=True) if holds_head]]


def _parts(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that a network is made of; of a list of them, or of "features", those inside."""
    for name, module in network.named_children():
        if isinstance(module, nn.ModuleList) or name == "features":
            yield from ((f"{name}.{inner}", one) for inner, one in module.named_children())
        else:
            yield name, module


def _blocks(name: str, module: nn.Module) -> list[list[str]]:
    """Return the blocks of a stage, each a group; the stage itself where it is no sequence of blocks."""
    children = list(module.named_children())
    if len(children) == 1:
        return _blocks(f"{name}.{children[0][0]}", children[0][1])
    is_sequence = isinstance(module, nn.Sequential | nn.ModuleList)
    if not is_sequence or any(next(child.children(), None) is None for _, child in children):
        return [[name]]
    return [[f"{name}.{inner}"] for inner, _ in children]


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


__all__ = [
    "FrozenStages",
    "frozen_stages",
    "layer_depths",
    "layer_scales",
    "stage_count",
    "stage_depths",
]
