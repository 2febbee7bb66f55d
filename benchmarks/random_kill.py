"""Kills a training command with SIGKILL at random moments until it finishes, and compares it with an uninterrupted run.

    python benchmarks/random_kill.py --rounds 5

Each round ends with the same weights, state and scores, bit for bit, or the script fails and names the difference.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KDCAM = str(Path(sys.executable).with_name("kdcam"))
COMPARED = ("model.safetensors", "resume/state.safetensors", "result.json")


def command(output: Path) -> list[str]:
    sets = ("epochs=6", "data.mixup=0.2")
    return [
        KDCAM,
        "train",
        "digits",
        "--quiet",
        "--output",
        str(output),
        *(w for s in sets for w in ("--set", s)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.monotonic()
        subprocess.run(command(folder / "whole"), check=True, capture_output=True)
        longest = time.monotonic() - start
        wanted = {file: (folder / "whole" / file).read_bytes() for file in COMPARED}
        total = 0
        for turn in range(arguments.rounds):
            output, kills = folder / f"killed-{turn}", 0
            while True:
                process = subprocess.Popen(command(output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                try:
                    _, errors = process.communicate(timeout=draw.uniform(0.3, 0.9) * longest)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.communicate()
                    kills += 1
                    continue
                if process.returncode != 0:
                    sys.exit(f"round {turn}: ended with {process.returncode}: {errors.decode()}")
                break
            for file in COMPARED:
                if (output / file).read_bytes() != wanted[file]:
                    sys.exit(
                        f"round {turn}, after {kills} kills: {file} differs from the uninterrupted run's"
                    )
            total += kills
            print(f"round {turn}: {kills} kills, equal")
    print(f"{total} kills in {arguments.rounds} rounds, all equal to an uninterrupted run")


if __name__ == "__main__":
    main()
