import pytest
import torch

from kdcam.errors import RecipeError
from kdcam.runtime.precision import Precision, pick_device, pick_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False, bf16: bool = True) -> None:
    """Make torch say that it sees these devices."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(("has", "picked"), [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": 1}, "cuda")])
def test_auto_takes_the_fastest_there_is(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, int], picked: str
) -> None:
    machine(monkeypatch, **has)  # type: ignore[arg-type]
    assert pick_device("auto").type == picked
    assert pick_device("cpu").type == "cpu"


def test_a_gpu_by_its_index(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=2)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(RecipeError, match=r"--device cuda:2: there are 2 CUDA devices, counted from 0"):
        pick_device("cuda:2")


@pytest.mark.parametrize(
    "name", ["", "gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cuda:0:1", "cpu:0", "mps:0"]
)
def test_what_is_no_device(name: str) -> None:
    with pytest.raises(RecipeError, match="must be auto, cpu, cuda, cuda:INDEX or mps"):
        pick_device(name)


def test_what_is_not_there_names_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    with pytest.raises(RecipeError, match=r"--device mps: not available to torch here; available: auto, cpu"):
        pick_device("mps")


@pytest.mark.parametrize(
    ("name", "device", "bf16", "dtype"),
    [
        ("auto", CPU, True, torch.float32),
        ("fp32", CPU, True, torch.float32),
        ("bf16", CPU, True, torch.bfloat16),
        ("auto", torch.device("mps"), True, torch.float32),
        ("auto", CUDA, True, torch.bfloat16),
        ("auto", CUDA, False, torch.float16),
        ("fp32", CUDA, True, torch.float32),
        ("fp16", CUDA, True, torch.float16),
    ],
)
def test_format_follows_from_the_name_and_the_device(
    monkeypatch: pytest.MonkeyPatch, name: str, device: torch.device, bf16: bool, dtype: torch.dtype
) -> None:
    machine(monkeypatch, cuda=1, bf16=bf16)
    assert pick_precision(name, device) == Precision(device, dtype)


def test_format_that_the_device_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=1, bf16=False)
    with pytest.raises(RecipeError, match='"bf16" is not supported by this GPU; allowed: auto, fp32, fp16'):
        pick_precision("bf16", CUDA)
    with pytest.raises(RecipeError, match='"fp16" needs a CUDA device, found cpu; allowed: auto, fp32, bf16'):
        pick_precision("fp16", CPU)


def test_autocast_only_below_fp32() -> None:
    layer, images = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with Precision(CPU, torch.float32).autocast():
        assert layer(images).dtype is torch.float32
    with Precision(CPU, torch.bfloat16).autocast():
        assert layer(images).dtype is torch.bfloat16


def test_only_fp16_scales_gradients_and_only_a_gpu_waits() -> None:
    assert not Precision(CPU, torch.float32).scaler().is_enabled()
    assert not Precision(CPU, torch.bfloat16).scaler().is_enabled()
    assert not Precision(CPU, torch.float32).waits
    assert Precision(CUDA, torch.float32).waits


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fp16_scales_on_a_gpu() -> None:
    assert Precision(CUDA, torch.float16).scaler().is_enabled()
