"""Nested dicts and lists with tensors in them, as flat named tensors plus JSON, and back."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

_TENSOR, _PAIRS, _TUPLE, _DTYPE = "__tensor__", "__pairs__", "__tuple__", "__dtype__"


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
    raise TypeError(f"{name}: a value of type {type(tree).__name__} cannot be kept")


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


__all__ = ["flatten_tree", "unflatten_tree"]
