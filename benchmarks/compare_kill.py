"""Kills `kdcam compare` with SIGKILL at random moments until it finishes, and compares it with an undisturbed one.

    python benchmarks/compare_kill.py --kills 20 --report docs/results/compare-kill.md

Every other kill takes the whole process group, the others the parent alone, so that its workers must notice; the same
command is started again at once. Each round ends with the table of the undisturbed comparison, but for its speeds, and
with the same weights bit for bit, or the script fails and names the difference.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kdcam.runtime.machine import describe_machine, package_versions

KDCAM = str(Path(sys.executable).with_name("kdcam"))
SPEEDS = ("images_per_second", "seconds")
STUDENT = """
epochs = 4
[data]
name = "digits"
[model]
name = "kdcam:resnet8"
[teacher]
checkpoint = "teacher"
[[loss]]
name = "cross_entropy"
weight = 0.1
[[loss]]
name = "kd"
weight = 0.9
"""


def command(output: str) -> list[str]:
    flags = ("--base", "student.toml", "--methods", "alone,caam_cam", "--seeds", "0..1", "--jobs", "2")
    return [KDCAM, "compare", *flags, "--quiet", "--output", output]


def outcome(output: Path) -> dict[str, Any]:
    """Return the table without what differs from run to run, and the digest of each run's weights."""
    table = json.loads((output / "comparison.json").read_text())
    del table["command"]  # it names the output
    for row in table["rows"]:
        for name in SPEEDS:
            del row[name]
    weights = {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.glob("runs/*/model.safetensors"))
    }
    return {"table": table, "weights": weights}


def killed_round(folder: Path, output: str, *, longest: float, draw: random.Random, kills: list[str]) -> None:
    """Start the comparison again and again until it comes to its end, killing it at random moments."""
    while True:
        process = subprocess.Popen(
            command(output),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _, errors = process.communicate(timeout=draw.uniform(0.1, 0.6) * longest)
        except subprocess.TimeoutExpired:
            kills.append("group" if len(kills) % 2 == 0 else "parent")
            (os.killpg if kills[-1] == "group" else os.kill)(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stderr is not None
            process.stderr.close()
            continue
        if process.returncode != 0:
            sys.exit(f"{output}: ended with {process.returncode}: {errors.decode()}")
        return


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    kills: list[str] = []
    rounds = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "student.toml").write_text(STUDENT)
        teacher = [KDCAM, "train", "digits", "--set", "epochs=2", "--output", "teacher", "--quiet"]
        subprocess.run(teacher, cwd=folder, check=True, capture_output=True)
        start = time.monotonic()
        subprocess.run(command("whole"), cwd=folder, check=True, capture_output=True)
        longest = time.monotonic() - start
        wanted = outcome(folder / "whole")
        while len(kills) < arguments.kills:
            before = len(kills)
            killed_round(folder, f"killed-{rounds}", longest=longest, draw=draw, kills=kills)
            found = outcome(folder / f"killed-{rounds}")
            for part in wanted:
                if found[part] != wanted[part]:
                    sys.exit(f"round {rounds}: the {part} differ:\n{found[part]}\nnot\n{wanted[part]}")
            print(f"round {rounds}: {', '.join(kills[before:]) or 'no kill'}; equal", flush=True)
            rounds += 1
    report = (
        f"{len(kills)} kills ({kills.count('group')} of the whole process group, {kills.count('parent')} of the parent "
        f"alone) in {rounds} rounds of {len(wanted['weights'])} runs ({longest:.0f} s undisturbed)"
    )
    print(report)
    if arguments.report is not None:
        write_report(arguments.report, report)


def write_report(path: Path, report: str) -> None:
    versions, machine = package_versions(), describe_machine()
    path.write_text(
        "# `kdcam compare` killed at random moments\n\n"
        f"`python benchmarks/compare_kill.py --report {path}` (kdcam {versions['kdcam']}, torch {versions['torch']}, "
        f"{machine['cores']} cores):\n{report},\neach SIGKILL followed at once by the same command.\n\n"
        "Every round ended with the table of an undisturbed comparison (scores, differences and intervals, agreement "
        "with the\nteacher, CAM similarities, curves), equal in every digit but for images/s and seconds, with no run "
        "failed, and with the\nsame weights bit for bit. That workers whose parent was killed end by themselves, and "
        "that folders which another process\nholds are waited for, is shown in "
        "tests/comparison/workers/test_worker_pool.py.\n"
    )


if __name__ == "__main__":
    main()
