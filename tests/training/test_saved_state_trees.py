import json

import numpy as np
import pytest
import torch
from timm.optim import list_optimizers  # type: ignore[attr-defined]  # not in its __all__

from kdcam.errors import RecipeError
from kdcam.optim.optimizer import TimmOptimizerConfig
from kdcam.training.saved_state import flatten_tree, unflatten_tree


def test_round_trip_through_json() -> None:
    tree = {
        "state": {0: {"momentum": torch.randn(3), "step": 4}, 1: {}},
        "groups": [{"lr": 0.1, "betas": (0.9, 0.99), "name": None, "on": True, "dtype": torch.bfloat16}],
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


@pytest.mark.parametrize("name", ["Tensor", "float99", 5, ["a"]])
def test_a_type_that_torch_does_not_have_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match=r"is no type of torch's numbers"):
        unflatten_tree({"__dtype__": name}, {})


def test_the_state_of_every_optimizer_is_kept() -> None:
    kept = 0
    names = [str(name) for name in list_optimizers()]
    for name in (name for name in names if not name.startswith("kron")):  # they compile code for ten seconds
        weight = torch.nn.Parameter(torch.ones(3, 4))
        try:
            optimizer = TimmOptimizerConfig(name=name, lr=0.001).build([{"params": [weight]}])
        except RecipeError:
            continue  # of a GPU alone, or of second derivatives
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        tensors: dict[str, torch.Tensor] = {}
        form = flatten_tree(optimizer.state_dict(), "optimizer", tensors)
        optimizer.load_state_dict(unflatten_tree(json.loads(json.dumps(form)), tensors))
        again = flatten_tree(optimizer.state_dict(), "optimizer", {})
        assert again == form, name
        kept += 1
    assert kept > 50
