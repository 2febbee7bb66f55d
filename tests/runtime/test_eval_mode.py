import pytest
from torch import nn

from kdcam.runtime.eval_mode import eval_mode


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    model.train()
    model[1].eval()  # frozen on purpose
    return model


def test_each_part_gets_its_own_mode_back() -> None:
    model = network()
    with eval_mode(model):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == [True, True, False, True]


def test_also_after_an_error() -> None:
    model = network()
    with pytest.raises(RuntimeError, match="inside"), eval_mode(model):
        raise RuntimeError("inside")
    assert [part.training for part in model.modules()] == [True, True, False, True]
