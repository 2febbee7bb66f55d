"""The whole state of a run as tensors and JSON, and back: what makes a resumed run equal to an uninterrupted one."""

import random
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdcam.checkpoint import ResumeState
from kdcam.engine import Position, TrainState
from kdcam.trees import flatten_tree, unflatten_tree


def capture(state: TrainState) -> ResumeState:
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


def restore(state: TrainState, kept: ResumeState) -> None:
    """Put a run back to where `capture` found it; the run must have been assembled from the same recipe."""
    for prefix, module in _modules(state).items():
        length = len(prefix) + 1
        module.load_state_dict(
            {name[length:]: value for name, value in kept.tensors.items() if name.startswith(f"{prefix}.")}
        )
    moving = {name: unflatten_tree(form, kept.tensors) for name, form in kept.record.items()}
    state.optimizer.load_state_dict(moving["optimizer"])
    state.schedule.load_state_dict(moving["schedule"])
    state.scaler.load_state_dict(moving["scaler"])
    state.means.load_state_dict(moving["means"])
    state.position = Position(**moving["position"])
    _restore_generators(moving["generators"])


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


def _restore_generators(kept: dict[str, Any]) -> None:
    torch.set_rng_state(kept["torch"])
    if torch.cuda.is_initialized() and kept["cuda"]:
        torch.cuda.set_rng_state_all(kept["cuda"])
    name, keys, *rest = kept["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    random.setstate(kept["python"])


__all__ = ["capture", "restore"]
