import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from kdcam.errors import RecipeError
from kdcam.optim.optimizer import AdamWConfig, SgdConfig, TimmOptimizerConfig, build_optimizer


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    torch.manual_seed(1)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).square().mean().backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_torch_bit_for_bit(nesterov: bool) -> None:
    ours, theirs = network(), network()
    config = SgdConfig(lr=0.1, momentum=0.8, nesterov=nesterov, weight_decay=0.01)
    reference = torch.optim.SGD(
        theirs.parameters(), lr=0.1, momentum=0.8, nesterov=nesterov, weight_decay=0.01
    )
    for one, other in zip(train(ours, build_optimizer(config, ours)), train(theirs, reference), strict=True):
        assert torch.equal(one, other)


def test_adamw_equals_torch_bit_for_bit() -> None:
    ours, theirs = network(), network()
    config = AdamWConfig(lr=0.01, weight_decay=0.1, decay_norm_and_bias=True)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    for one, other in zip(train(ours, build_optimizer(config, ours)), train(theirs, reference), strict=True):
        assert torch.equal(one, other)


def test_norm_and_bias_are_spared_from_decay_on_request() -> None:
    optimizer = build_optimizer(SgdConfig(weight_decay=0.1, decay_norm_and_bias=False), network())
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert [p.ndim for p in decayed["params"]] == [2, 2]
    assert {p.ndim for p in spared["params"]} == {1}


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (SgdConfig(lr=0.1, weight_decay=0.1, decay_norm_and_bias=False), torch.optim.SGD),
        (AdamWConfig(lr=0.01, weight_decay=0.1), torch.optim.AdamW),
    ],
    ids=["sgd", "adamw"],
)
def test_spared_groups_equal_torchs_bit_for_bit(config: Any, kind: Any) -> None:
    ours, theirs = network(), network()
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    reference = kind(groups, lr=config.lr, **options)
    for one, other in zip(train(ours, build_optimizer(config, ours)), train(theirs, reference), strict=True):
        assert torch.equal(one, other)


def test_parameters_of_losses_are_never_decayed() -> None:
    model, objective = network(), nn.Linear(4, 3)
    optimizer = build_optimizer(SgdConfig(lr=0.1, weight_decay=0.5), model, objective)
    before = [parameter.detach().clone() for parameter in (*objective.parameters(), *model.parameters())]
    for parameter in (*objective.parameters(), *model.parameters()):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moved = zip(before, (*objective.parameters(), *model.parameters()), strict=True)
    assert [not torch.equal(old, new) for old, new in moved][:3] == [False, False, True]


def test_frozen_parameters_are_left_out() -> None:
    model = network()
    model[0].requires_grad_(False)  # type: ignore[index]
    optimizer = build_optimizer(SgdConfig(decay_norm_and_bias=False), model)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"name": "lionn"},
            "optimizer.name: found 'lionn'; must be sgd, adamw or a name of timm.optim; did you",
        ),
        ({"name": "adahessian"}, "optimizer.name: adahessian needs second derivatives of the loss"),
        (
            {"options": {"beta": 1}},
            "optimizer.options: timm's lion does not take .'beta': 1.*unexpected keyword",
        ),
        ({"options": {"betas": (1.5, 2.0)}}, "optimizer.options: .*Invalid beta"),
        (
            {"options": {"weight_decay": 0.1}},
            "optimizer.options: found 'weight_decay', which the keys name, lr",
        ),
        ({"options": {"lr": 0.1}}, "optimizer.options: found 'lr'"),
        ({"options": {"layer_decay": 0.5}}, "optimizer.options: found 'layer_decay'"),
    ],
)
def test_what_timm_does_not_take_is_refused(changes: dict[str, Any], match: str) -> None:
    config = TimmOptimizerConfig.model_validate({"name": "lion", "lr": 0.1, **changes})
    with pytest.raises(RecipeError, match=match):
        build_optimizer(config, network())


def test_timm_optimizer_by_name_with_options() -> None:
    config = TimmOptimizerConfig(name="lion", lr=1e-4, options={"betas": (0.8, 0.9)})
    optimizer = build_optimizer(config, network())
    assert type(optimizer).__name__ == "Lion"
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)


def test_state_survives_a_round_trip() -> None:
    model: Any = network()
    optimizer = build_optimizer(SgdConfig(), model)
    train(model, optimizer)
    again = build_optimizer(SgdConfig(), model)
    again.load_state_dict(optimizer.state_dict())
    assert len(again.state_dict()["state"]) == 6


def test_sgd_does_not_import_torchs_compiler() -> None:
    code = (
        "import sys, torch; from kdcam.optim.optimizer import SgdConfig, build_optimizer; m = torch.nn.Linear(2, 2);"
        "o = build_optimizer(SgdConfig(), m); m(torch.ones(1, 2)).sum().backward(); o.step(); o.zero_grad();"
        "o.load_state_dict(o.state_dict()); assert 'torch._dynamo' not in sys.modules and 'timm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
