from pathlib import Path

import pytest
import torch
from torch import nn

from kdcam.model_digest import weights_file_digest
from kdcam.teacher_cache.fingerprints import weights_digest
from kdcam.weights import tensor_bytes


class Odd(nn.Module):
    """Tensors of many types, no size and an unusual layout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.half = nn.Linear(2, 2, dtype=torch.bfloat16)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("none", torch.zeros(0, 3, dtype=torch.int32))


def test_it_is_that_of_the_network(tmp_path: Path) -> None:
    network = Odd()
    (tmp_path / "model.safetensors").write_bytes(tensor_bytes(network.state_dict(), {"format": "pt"}))
    assert weights_file_digest(tmp_path / "model.safetensors") == weights_digest(network)
    network.norm.running_mean += 1
    assert weights_file_digest(tmp_path / "model.safetensors") != weights_digest(network)


@pytest.mark.parametrize("content", [None, b"", b"no tensors"])
def test_what_is_no_such_file_has_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    assert weights_file_digest(tmp_path / "model.safetensors") is None
