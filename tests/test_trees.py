import json

import numpy as np
import pytest
import torch

from kdcam.trees import flatten_tree, unflatten_tree


def test_round_trip_through_json() -> None:
    tree = {
        "state": {0: {"momentum": torch.randn(3), "step": 4}, 1: {}},
        "groups": [{"lr": 0.1, "betas": (0.9, 0.99), "name": None, "on": True}],
        "empty": [],
    }
    tensors: dict[str, torch.Tensor] = {}
    form = json.loads(json.dumps(flatten_tree(tree, "optimizer", tensors)))
    assert list(tensors) == ["optimizer.state.0.momentum"]
    back = unflatten_tree(form, tensors)
    assert torch.equal(back["state"][0].pop("momentum"), tree["state"][0].pop("momentum"))  # type: ignore[index]
    assert back == tree


def test_numpy_arrays_become_tensors() -> None:
    tensors: dict[str, torch.Tensor] = {}
    flatten_tree(np.array([1, 2**32 - 1], dtype=np.uint32), "keys", tensors)
    assert tensors["keys"].tolist() == [1, 2**32 - 1]


def test_what_cannot_be_kept_is_refused() -> None:
    with pytest.raises(TypeError, match=r"a.0: a value of type object"):
        flatten_tree([object()], "a", {})
