"""What an ordinary run does not import: each would make every user wait."""

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from importlib.metadata import entry_points
(script,) = entry_points(group="console_scripts", name="kdcam")
main = script.load()
sys.argv = ["kdcam", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
slow = {"timm", "torchvision", "sklearn", "matplotlib", "torch._dynamo", "PIL"} & set(sys.modules)
assert not slow, slow
"""


def test_a_kdcam_network_on_digits_imports_neither_timm_nor_torchvision(tmp_path: Path) -> None:
    sets = ["--set", "epochs=1", "--set", "data.validation=0.5"]
    command = [
        sys.executable,
        "-c",
        CODE,
        "train",
        "digits",
        "--quiet",
        "--output",
        str(tmp_path / "run"),
        *sets,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_weight_locations_and_digests_of_files_are_read_without_torch() -> None:
    code = "import sys, kdcam.files.digests, kdcam.files.weight_location; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
