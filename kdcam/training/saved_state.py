"""The whole state of a run as tensors and JSON, and back: a resumed run equals an uninterrupted one."""

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdcam.errors import CheckpointError
from kdcam.runs.checkpoint import START_OVER, ResumeState
from kdcam.training.engine import Position, TrainState

_TENSOR, _PAIRS, _TUPLE, _DTYPE = "__tensor__", "__pairs__", "__tuple__", "__dtype__"
# What torch, numpy and Python raise on a state that is not what they gave.
_MISFITS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,  # RecursionError, too
    TypeError,
    ValueError,
)


def capture_state(state: TrainState) -> ResumeState:
    """Return all that a run needs to go on bit for bit, the generators of torch, numpy and Python included."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in _modules(state).items():
        tensors |= {f"{prefix}.{key}": value for key, value in module.state_dict().items()}
    moving = {
        "optimizer": state.optimizer.state_dict(),
        "schedule": state.schedule.state_dict(),
        "scaler": state.scaler.state_dict(),
        "means": state.means.state_dict(),
        "position": asdict(state.position),
        "generators": _generators(),
    }
    record = {name: flatten_tree(tree, name, tensors) for name, tree in moving.items()}
    return ResumeState(tensors, record)


def restore_state(state: TrainState, saved: ResumeState, *, place: Path) -> None:
    """Put a run back to where `capture_state` found it; the run must have been assembled from the same recipe.

    ``place``: where the state was saved, for the message.

    Raises ``CheckpointError`` where it is damaged or of another run: then the run is not as it was before, either.
    """
    try:
        _restore(state, saved)
    except _MISFITS as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise CheckpointError(
            f"{place}: the saved state is damaged or of another run ({what}); {START_OVER}"
        ) from error


def _restore(state: TrainState, saved: ResumeState) -> None:
    for prefix, module in _modules(state).items():
        length = len(prefix) + 1
        module.load_state_dict(
            {name[length:]: value for name, value in saved.tensors.items() if name.startswith(f"{prefix}.")}
        )
    moving = {name: unflatten_tree(form, saved.tensors) for name, form in saved.record.items()}
    _require_alike(moving["schedule"], state.schedule.state_dict(), "schedule")
    _require_optimizer_fits(moving["optimizer"], state.optimizer)
    state.optimizer.load_state_dict(moving["optimizer"])
    state.schedule.load_state_dict(moving["schedule"])
    state.scaler.load_state_dict(moving["scaler"])
    state.means.load_state_dict(moving["means"])
    state.position = _position(moving["position"])
    _restore_generators(moving["generators"])


def _position(saved: dict[str, Any]) -> Position:
    """Return a run's place; ``TypeError`` or ``ValueError`` where it is none."""
    _require_alike(saved, asdict(Position()), "position")
    if any(not isinstance(saved[key], dict) and saved[key] < 0 for key in saved):
        raise ValueError("a position below 0")
    if not all(isinstance(name, str) and _is_number(value) for name, value in saved["best"].items()):
        raise TypeError("position.best holds other things than scores")
    return Position(**saved)


def _require_optimizer_fits(saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what torch takes unseen and trips over in the next step."""
    groups = optimizer.state_dict()["param_groups"]
    for found, own in zip(saved["param_groups"], groups, strict=True):
        # Another torch may have other keys; those of both must be of one kind.
        _require_alike(
            {key: found[key] for key in own if key in found},
            {key: own[key] for key in own if key in found},
            "optimizer",
        )
    numbers = [number for group in groups for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    by_number = dict(zip(numbers, parameters, strict=True))
    if not isinstance(optimizer, torch.optim.SGD | torch.optim.AdamW):
        return  # timm's keep factored matrices and treat parameters of other shapes otherwise
    if len({frozenset(entry) for entry in saved["state"].values()}) > 1:
        raise ValueError("the optimizer keeps other things of one parameter than of the next")
    for number, entry in saved["state"].items():
        shape = by_number[number].shape
        for name, value in entry.items():
            if isinstance(value, Tensor) and value.numel() != 1 and value.shape != shape:
                raise ValueError(
                    f"{name} of a parameter is {tuple(value.shape)} where that is {tuple(shape)}"
                )


def _require_alike(found: Any, own: Any, place: str) -> None:
    """Raise ``TypeError`` where a saved tree has other keys or kinds of values than a new run's; None fits any."""
    if isinstance(own, dict):
        if not isinstance(found, dict) or (own and found.keys() != own.keys()):
            raise TypeError(f"{place} has other entries than a new run's")
        for key in own:
            _require_alike(found[key], own[key], f"{place}.{key}")
    elif isinstance(own, list | tuple):
        if not isinstance(found, list | tuple):
            raise TypeError(f"{place} is no list")
    elif (
        own is not None
        and found is not None
        and not (type(found) is type(own) or (_is_number(found) and _is_number(own)))
    ):
        raise TypeError(f"{place} is {str(found)[:40]!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _modules(state: TrainState) -> dict[str, torch.nn.Module]:
    modules: dict[str, torch.nn.Module] = {"student": state.model.student, "objective": state.model.objective}
    if state.ema is not None:
        modules["ema"] = state.ema.module
    return modules


def _generators() -> dict[str, Any]:
    return {
        "torch": torch.get_rng_state(),
        # Of a run on a GPU only: to ask for it would start CUDA in a run on the CPU.
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": np.random.get_state(legacy=True),
        "python": random.getstate(),
    }


def _restore_generators(saved: dict[str, Any]) -> None:
    torch.set_rng_state(saved["torch"])
    if torch.cuda.is_initialized() and saved["cuda"]:
        torch.cuda.set_rng_state_all(saved["cuda"])
    name, keys, *rest = saved["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    random.setstate(saved["python"])


def flatten_tree(tree: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return the JSON form of a tree whose tensors are put into ``tensors`` under names that begin with ``name``.

    Dicts (keys of text or whole numbers), lists, tuples, numbers, text, None, tensors, their types and numpy arrays are
    allowed; ``TypeError`` for anything else, so that nothing is lost unseen.
    """
    if isinstance(tree, Tensor):
        tensors[name] = tree
        return {_TENSOR: name}
    if isinstance(tree, torch.dtype):
        return {_DTYPE: str(tree).removeprefix("torch.")}
    if isinstance(tree, np.ndarray):
        return flatten_tree(torch.from_numpy(tree.astype(np.int64)), name, tensors)
    if isinstance(tree, dict):
        return {_PAIRS: [[key, flatten_tree(value, f"{name}.{key}", tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        items = [flatten_tree(value, f"{name}.{index}", tensors) for index, value in enumerate(tree)]
        return {_TUPLE: items} if isinstance(tree, tuple) else items
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"{name}: a value of type {type(tree).__name__} cannot be saved")


def unflatten_tree(form: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the tree that `flatten_tree` took apart."""
    if isinstance(form, list):
        return [unflatten_tree(value, tensors) for value in form]
    if not isinstance(form, dict):
        return form
    if _TENSOR in form:
        return tensors[form[_TENSOR]]
    if _DTYPE in form:
        return _dtype(form[_DTYPE])
    if _TUPLE in form:
        return tuple(unflatten_tree(value, tensors) for value in form[_TUPLE])
    return {key: unflatten_tree(value, tensors) for key, value in form[_PAIRS]}


def _dtype(name: Any) -> torch.dtype:
    found = getattr(torch, str(name), None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{str(name)[:40]!r} is no type of torch's numbers")
    return found


__all__ = [
    "capture_state",
    "flatten_tree",
    "restore_state",
    "unflatten_tree",
]
