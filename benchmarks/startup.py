"""How long a user waits: `kdcam --help`, and from the command `kdcam train digits` to the first training step.

    python benchmarks/startup.py --out docs/results/startup.json

Every measurement is a fresh process; they take turns, and the ratio is that of medians. The time of the first
step is told by the training process itself, against the wall clock at which the command was given.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kdcam.runtime.machine import describe_machine, package_versions

KDCAM = str(Path(sys.executable).with_name("kdcam"))
# Runs the real command; only the first training step is told.
FIRST_STEP = """
import sys, time
from importlib.metadata import entry_points
import kdcam.training.engine as engine
step = engine.train_step
def told(*arguments):
    print(time.time(), flush=True)
    engine.train_step = step
    return step(*arguments)
engine.train_step = told
(script,) = entry_points(group="console_scripts", name="kdcam")
sys.argv = ["kdcam", *sys.argv[1:]]
script.load()()
"""


def spent(command: list[str]) -> float:
    """Return the seconds that a process takes."""
    start = time.time()
    subprocess.run(command, check=True, capture_output=True)
    return time.time() - start


def until_first_step(*overrides: str) -> float:
    """Return the seconds from starting `kdcam train digits` to its first training step."""
    with tempfile.TemporaryDirectory() as folder:
        sets = [word for override in ("epochs=1", *overrides) for word in ("--set", override)]
        command = [
            sys.executable,
            "-c",
            FIRST_STEP,
            "train",
            "digits",
            "--output",
            f"{folder}/run",
            "--quiet",
            *sets,
        ]
        start = time.time()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(done.stdout.split("\n", 1)[0]) - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    timm_network = ("model.name=resnet10t", "data.image_size=64")
    measured = {
        "kdcam --help": lambda: spent([KDCAM, "--help"]),
        "import torch": lambda: spent([sys.executable, "-c", "import torch"]),
        "import timm": lambda: spent([sys.executable, "-c", "import timm"]),
        "first step, kdcam: network and torch's SGD": until_first_step,
        "first step, timm network and SGD": lambda: until_first_step(*timm_network),
    }
    seconds: dict[str, list[float]] = {name: [] for name in measured}
    for turn in range(arguments.rounds + 1):  # the first fills the disk's cache and is not counted
        for name, measure in measured.items():
            value = measure()
            if turn:
                seconds[name].append(value)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    own, timm = "first step, kdcam: network and torch's SGD", "first step, timm network and SGD"
    result = {
        "median_seconds": {name: round(value, 3) for name, value in medians.items()},
        "range_seconds": {name: [round(min(v), 3), round(max(v), 3)] for name, v in seconds.items()},
        "own_network_over_import_torch": round(medians[own] / medians["import torch"], 3),
        "own_network_over_import_timm": round(medians[own] / medians["import timm"], 3),
        "timm_network_over_import_timm": round(medians[timm] / medians["import timm"], 3),
        "rounds": arguments.rounds,
        "machine": describe_machine(),
        "versions": package_versions(),
        "command": "python benchmarks/startup.py",
    }
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
