import json
import platform
import subprocess
import sys
from pathlib import Path

import torch

from kdcam.machine import describe_machine, package_versions


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
        "import sys; from kdcam.runlog import RunFolder; from kdcam.machine import package_versions; "
        "package_versions(); print(sorted({'torch', 'timm', 'torchvision', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=True,
    )
    assert done.stdout == "[]\n"
