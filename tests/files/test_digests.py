import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from kdcam.files.digests import targets_digest, weights_digest, weights_file_digest
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights.safetensors_files import tensor_bytes


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


def network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    config = ModelConfig(name="kdcam:resnet8")
    return build_classifier(config, num_classes=3, in_channels=1, image_size=16).network


def test_weights_and_buffers_decide() -> None:
    first = network(0)
    digest = weights_digest(first)
    assert weights_digest(network(0)) == digest != weights_digest(network(1))
    assert weights_digest(first.to(memory_format=torch.channels_last)) == digest  # type: ignore[call-overload]
    next(iter(first.buffers())).add_(1e-3)
    assert weights_digest(first) != digest


def test_values_and_shape_of_targets_decide() -> None:
    labels = torch.arange(6)
    others = [labels, labels.flip(0), labels.view(2, 3), labels.float()]
    assert len({targets_digest(one) for one in others}) == 4
    assert targets_digest(labels) == targets_digest(torch.arange(6))


def test_what_is_kept_in_files_stays_the_same() -> None:
    """The format as its description has it: what runs and caches were written under must be found again."""
    written = b"16:torch.uint8 (2,)" + bytes([3, 4])
    assert targets_digest(torch.tensor([3, 4], dtype=torch.uint8)) == hashlib.sha256(written).hexdigest()
