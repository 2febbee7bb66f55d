import errno
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from small_runs import small_recipe

import kdcam
from kdcam.errors import KdcamError, OutOfMemory
from kdcam.runtime.memory import amount_asked, memory_errors, memory_text


def test_what_could_not_be_had_is_told_with_its_amount() -> None:
    on_cpu = RuntimeError(
        "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 40000000000 bytes. Error code 12 (Cannot allocate memory)"
    )
    on_device = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity"
    )
    assert amount_asked(on_cpu) == "40.0 GB"
    assert amount_asked(on_device) == "2.50 GiB"
    assert amount_asked(MemoryError("Unable to allocate 3.00 TiB for an array with shape (1,)")) == "3.00 TiB"
    assert memory_text(MemoryError()) == "out of memory"
    assert memory_text(on_cpu) == "out of memory (40.0 GB more was asked for)"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
    ],
)
def test_other_signs_of_no_memory(error: Exception) -> None:
    assert amount_asked(error) == ""


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), OSError(errno.ENOSPC, "full"), ValueError("x")]
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert amount_asked(error) is None
    with pytest.raises(type(error)) as raised, memory_errors("working", "rest"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("ask", [lambda: torch.empty(2**46), lambda: numpy.empty(2**55, dtype=numpy.uint8)])
def test_real_lacks_are_known(ask: object) -> None:
    said = r"^reading: out of memory \(.+ more was asked for\); read less$"
    with pytest.raises(OutOfMemory, match=said), memory_errors("reading", "read less"):
        ask()  # type: ignore[operator]


def _lacking(*args: object, **keys: object) -> None:
    raise MemoryError


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("kdcam.api.preflight", "building the networks: out of memory; take smaller ones"),
        ("kdcam.training.training_run.load_data", "reading the data: out of memory; lower data.image_size"),
        (
            "kdcam.training.training_run.assemble",
            "training on batches of 16 images of 16 pixels: out of memory; lower batch_size",
        ),
        (
            "kdcam.training.engine.train_step",
            "training on batches of 16 images of 16 pixels: out of memory; lower batch_size",
        ),
    ],
)
def test_a_run_says_what_it_was_at(
    place: str, said: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, _lacking)
    with pytest.raises(OutOfMemory, match=said):
        kdcam.train(small_recipe(), output=f"{tmp_path}/run", device="cpu")
    assert issubclass(OutOfMemory, KdcamError)


_LIMITED = """
import resource, sys
import torch, kdcam.api
from kdcam.cli.main import main
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 700_000_000,) * 2)
sys.argv = ["kdcam", *sys.argv[1:]]
main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of memory as Linux keeps it")
def test_a_batch_too_large_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_text(
        'batch_size = 200\n[data]\nname = "digit-scenes"\nimage_size = 64\ntrain_size = 250\ntest_size = 20\n'
        '[model]\nname = "kdcam:resnet110"\n'
    )
    arguments = [
        "train",
        f"{tmp_path}/large.toml",
        "--quiet",
        "--output",
        f"{tmp_path}/run",
        "--device",
        "cpu",
    ]
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("kdcam: error: training on batches of 200 images of 64 pixels: out of memory (")
    assert "more was asked for); lower batch_size" in line
