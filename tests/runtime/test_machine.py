import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kdcam.runtime.machine import cpu_quota, describe_machine, package_versions, thread_advice, usable_cores


def test_versions_are_those_that_are_imported() -> None:
    versions = package_versions()
    assert versions["torch"] == torch.__version__.partition("+")[0] or versions["torch"] == torch.__version__
    assert versions["python"] == platform.python_version()
    assert {"kdcam", "timm", "torchvision", "numpy", "safetensors"} <= versions.keys()


def test_machine_is_json_with_at_least_one_core() -> None:
    machine = json.loads(json.dumps(describe_machine()))
    assert machine["cores"] >= 1
    assert machine["processor"]
    assert machine["system"]


def test_asking_for_versions_imports_nothing_heavy() -> None:
    code = (
        "import sys; from kdcam.runs.run_folder import RunFolder; from kdcam.runtime.machine import package_versions; "
        "package_versions(); print(sorted({'torch', 'timm', 'torchvision', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert done.stdout == "[]\n"


def _groups(tmp_path: Path, line: str, **files: str) -> float | None:
    (tmp_path / "own").write_text(line)
    for name, text in files.items():
        file = tmp_path / "cgroup" / name.replace("__", "/").replace("cpu_", "cpu.", 1)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return cpu_quota(tmp_path / "cgroup", tmp_path / "own")


def test_the_smallest_share_of_the_groups_counts(tmp_path: Path) -> None:
    files = {
        "a__b__cpu_max": "400000 100000\n",
        "a__cpu_max": "150000 100000\n",
        "other__cpu_max": "1 100000\n",
    }
    assert _groups(tmp_path, "0::/a/b\n", **files) == 1.5


def test_groups_of_version_1(tmp_path: Path) -> None:
    files = {"cpu__job__cpu_cfs_quota_us": "250000\n", "cpu__job__cpu_cfs_period_us": "100000\n"}
    files |= {"cpu__cpu_cfs_quota_us": "-1\n", "cpu__cpu_cfs_period_us": "100000\n"}
    assert _groups(tmp_path, "5:memory:/job\n4:cpu,cpuacct:/job\n", **files) == 2.5


@pytest.mark.parametrize("line", ["0::/\n", "", "nonsense\n", "0::/../../etc\n"])
def test_no_share_is_no_limit(tmp_path: Path, line: str) -> None:
    assert _groups(tmp_path, line, cpu_max="max 100000\n") is None


def test_usable_cores_are_those_of_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdcam.runtime.machine._cores", lambda: 8)
    for quota, cores in ((None, 8), (1.5, 2), (0.2, 1), (64.0, 8)):
        monkeypatch.setattr("kdcam.runtime.machine.cpu_quota", lambda quota=quota: quota)
        assert usable_cores() == describe_machine()["cores"] == cores


@pytest.mark.parametrize(
    ("threads", "usable", "busy", "said"),
    [
        (4, 4, 0.0, None),
        (4, 4, 0.6, None),
        (8, 2, 0.0, "8 threads on 2 usable cores, .* set OMP_NUM_THREADS=2"),
        (8, 1, 0.0, "8 threads on 1 usable core, .* set OMP_NUM_THREADS=1"),
        (4, 4, 3.1, "use about 3 of 4 cores, and torch 4 threads, .* set OMP_NUM_THREADS=1"),
        (4, 4, 9.0, "set OMP_NUM_THREADS=1"),
        (2, 4, 2.0, None),
        (1, 4, 9.0, None),
    ],
)
def test_threads_that_do_not_fit(
    threads: int, usable: int, busy: float, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdcam.runtime.machine.usable_cores", lambda: usable)
    monkeypatch.setattr("kdcam.runtime.machine._busy_cores", lambda: busy)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    advice = thread_advice(threads)
    assert (advice is None) if said is None else re.search(said, advice or "")
