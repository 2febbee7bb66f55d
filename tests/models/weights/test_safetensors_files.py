from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch import nn

from kdcam.errors import CheckpointError
from kdcam.models.weights.safetensors_files import load_exactly, plain_names, read_tensors, tensor_bytes


def _network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_tied_and_transposed_tensors_are_written_as_they_read() -> None:
    table = torch.arange(6.0).reshape(2, 3)
    tensors = {"a": table, "b": table, "row": table[1], "turned": table.t(), "none": torch.empty(0)}
    found = load(tensor_bytes(tensors, {}))
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_same_tensors_give_the_same_bytes() -> None:
    state = _network().state_dict()
    assert tensor_bytes(state, {"format": "pt"}) == tensor_bytes(state, {"format": "pt"})


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.bool, torch.int64, torch.bfloat16, torch.float16, torch.float64]
)
def test_types_and_single_numbers_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"one": torch.ones((), dtype=dtype), "two": torch.zeros(2, dtype=dtype)}
    (tmp_path / "x.safetensors").write_bytes(tensor_bytes(tensors, {}))
    found = read_tensors(tmp_path / "x.safetensors")
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in found.items()} == {
        name: (dtype, tensor.shape) for name, tensor in tensors.items()
    }


def test_prefix_chooses_and_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(
        tensor_bytes({"student.fc": torch.ones(1), "ema.fc": torch.zeros(1)}, {})
    )
    assert read_tensors(tmp_path / "x.safetensors", "ema.") == {"fc": torch.zeros(1)}


@pytest.mark.parametrize("left", [0, 4, 60, -1])
def test_torn_file_is_refused(tmp_path: Path, left: int) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(tensor_bytes(_network().state_dict(), {})[:left])
    with pytest.raises(CheckpointError, match=r"x\.safetensors: not a whole safetensors file"):
        read_tensors(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"x\.safetensors: cannot be read"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", ["x.pth", "x.PT", "x.bin", "x.pth.tar", "x.ckpt"])
def test_pickles_are_refused_unread(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="a pickle, which can run any code"):
        read_tensors(tmp_path / name)


def test_plain_names_drop_what_wrappers_put_before() -> None:
    one = torch.ones(1)
    assert plain_names({"module._orig_mod.fc": one, "_orig_mod.module.bn": one}).keys() == {"fc", "bn"}
    assert plain_names({"module.fc": one, "bn": one}).keys() == {"module.fc", "bn"}


def test_load_exactly_keeps_type_and_memory_format() -> None:
    source, target = _network(), _network().to(memory_format=torch.channels_last)
    load_exactly(target, source.double().state_dict(), source="x", what="y")
    assert target[0].weight.dtype == torch.float32
    assert target[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(target[0].weight.double(), source[0].weight)


def test_first_mismatch_is_named_and_nothing_loaded() -> None:
    network = _network()
    before = network[0].bias.detach().clone()
    state = _network().state_dict()
    missing = {name: tensor for name, tensor in state.items() if name != "1.bias"}
    with pytest.raises(CheckpointError, match=r"^here: does not fit a net: '1\.bias' is missing; "):
        load_exactly(network, missing, source="here", what="a net")
    with pytest.raises(CheckpointError, match="'fc' is not part of it; "):
        load_exactly(network, {**state, "fc": torch.ones(1)}, source="here", what="a net")
    other = {**missing, "0.weight": torch.ones(4, 1, 3, 3)}
    with pytest.raises(CheckpointError, match=r"'0\.weight' is 4x1x3x3, expected 4x3x3x3 \(and 1 more\)"):
        load_exactly(network, other, source="here", what="a net")
    assert torch.equal(network[0].bias, before)
