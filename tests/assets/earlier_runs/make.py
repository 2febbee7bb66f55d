"""Makes the folders of earlier runs; README.md says when and with what this was done.

Run as a script: python tests/assets/earlier_runs/make.py FOLDER. It writes below FOLDER, which must not be there, and
asserts on the way that the interrupted run ends bit for bit like one that was not.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
KDCAM = (sys.executable, "-m", "kdcam")
AVERAGED = ("--set", "ema_decay=0.8")
STOPPED_ATTACK = (
    "--attacks",
    "pgd-40",
    "--eps",
    "0.001",
    "--batch-size",
    "4",
    "--no-checks",
    "--no-pictures",
)


def kdcam(folder: Path, *arguments: str) -> None:
    subprocess.run([*KDCAM, *arguments, "--device", "cpu"], cwd=folder, check=True)


def stopped_training(folder: Path, output: str) -> None:
    """Train and send the process Ctrl-C's signal as soon as it has told of the last epoch but one."""
    command = [*KDCAM, "train", "scenes.toml", *AVERAGED, "--output", output, "--device", "cpu"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        print(line, end="")
        if line.startswith("epoch 3/4"):
            process.send_signal(signal.SIGINT)
    assert process.wait() == 130, "the run ended before the signal came; try again"


def stopped_evaluation(folder: Path) -> None:
    """Attack the finished run and send Ctrl-C's signal once something is kept of it."""
    command = [*KDCAM, "evaluate-robustness", "finished", *STOPPED_ATTACK, "--device", "cpu"]
    process = subprocess.Popen(command, cwd=folder)
    while process.poll() is None and not list((folder / "finished").glob("robustness-progress-*.json")):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130, "the evaluation ended before the signal came; try again"


def keep_end(run: Path, file: Path) -> None:
    """Write what a run came to into a file."""
    epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    end = {"epochs": epochs, "result": json.loads((run / "result.json").read_text())}
    file.write_text(json.dumps(end, indent=1) + "\n")


def main(folder: Path) -> None:
    folder.mkdir()
    for name in ("scenes.toml", "student.toml"):
        shutil.copy(HERE / name, folder / name)
    kdcam(folder, "train", "scenes.toml", "--output", "finished")
    kdcam(folder, "evaluate-robustness", "finished", "--attacks", "fgsm", "--no-pictures")
    kdcam(folder, "localize", "finished", "--no-pictures")
    stopped_evaluation(folder)

    stopped_training(folder, "unfinished")
    shutil.copytree(folder / "unfinished", folder / "continued")
    for output in ("continued", "whole"):
        kdcam(folder, "train", "scenes.toml", *AVERAGED, "--output", output)
    for name in ("model.safetensors", "resume/state.safetensors", "result.json"):
        assert (folder / "continued" / name).read_bytes() == (folder / "whole" / name).read_bytes(), name
    keep_end(folder / "whole", folder / "unfinished_end.json")

    kdcam(folder, "distill", "student.toml", "--output", "student")
    keep_end(folder / "student", folder / "student_end.json")

    grid = ("--losses", "cam,focal+cam", "--set", "epochs=2", "--seeds", "0")
    kdcam(folder, "compare", "scenes.toml", *grid, "--output", "comparison")

    for name in ("continued", "whole", "student"):
        shutil.rmtree(folder / name)
    for state in (folder / "comparison" / "runs").glob("*/resume"):
        shutil.rmtree(state)
    (folder / "comparison" / "runs" / ".gitignore").unlink()


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(Path(sys.argv[1]))
