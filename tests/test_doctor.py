import builtins
import importlib
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from kdcam import doctor

Usage = namedtuple("Usage", "total used free")


def named(name: str) -> doctor.Finding:
    return next(finding for finding in doctor.examine() if finding.name == name)


def test_this_installation_is_sound() -> None:
    findings = doctor.examine()
    assert [finding for finding in findings if finding.state == "problem"] == []
    assert {"python", "kdcam", "torch", "torch build", "device", "threads"} <= {
        finding.name for finding in findings
    }


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("operator torchvision::nms does not exist"),
        ImportError("undefined symbol: _ZN5torch3jit17parseSchemaOrNameERKSs"),
        RuntimeError(
            "Detected that PyTorch and torchvision were compiled with different CUDA major versions."
        ),
    ],
)
def test_builds_that_do_not_match(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(name: str) -> Any:
        raise error

    monkeypatch.setattr(doctor, "import_module", broken)
    (finding,) = doctor.check_torchvision()
    assert finding.state == "problem"
    assert finding.found.startswith("torch and torchvision builds do not match: torch ")
    assert str(error).splitlines()[0] in finding.found
    assert "pip install" in finding.advice
    monkeypatch.setattr(doctor, "import_module", importlib.import_module)


def test_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def broken(name: str, *rest: Any) -> Any:
        if name == "torch":
            raise OSError("libcudart.so.13: cannot open shared object file")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    (finding,) = doctor.check_torch()
    assert finding.state == "problem"
    assert "libcudart" in finding.found


def test_missing_and_old_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"kdcam": "0.1.0", "timm": "1.0.9", "rich": "13.10"}

    def version(name: str) -> str:
        if name not in versions:
            raise doctor.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor.metadata, "version", version)
    required = ["timm>=1.0.29", "rich>=13.7", "typer>=0.15", 'pytest>=8; extra == "test"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: required)
    found = {finding.name: finding for finding in doctor.check_packages()}
    assert found["timm"].state == "problem"  # 1.0.9 is older than 1.0.29, though not as text
    assert found["rich"].state == "ok"
    assert found["typer"].advice == 'python -m pip install "typer>=0.15"'
    assert "pytest" not in found


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 10_000)
    assert named("threads").state == "note"
    assert "OMP_NUM_THREADS=" in named("threads").advice


def test_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    finding = doctor.check_writable_folder("data cache", tmp_path / "a" / "b", "move it")
    assert finding.state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = doctor.check_writable_folder("data cache", tmp_path / "file" / "b", "move it")
    assert (finding.state, finding.advice) == ("problem", "move it")


def test_a_full_disk_and_small_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(1, 1, 2**20))
    assert doctor.check_writable_folder("run folders", tmp_path, "").state == "note"
    (finding,) = doctor.check_shared_memory(tmp_path)
    assert "workers = 0" in finding.advice
    assert list(doctor.check_shared_memory(tmp_path / "nowhere")) == []
