"""What a process of the command line does at signals of a terminal and of a scheduler."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from long_tests import in_long

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of a terminal")
COMMAND = (sys.executable, "-m", "kdcam")


def _started(*arguments: object) -> subprocess.Popen[str]:
    """Start a command in a session of its own: what is sent to its group reaches its children and nobody else."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _until(process: subprocess.Popen[str], beginning: str) -> None:
    """Read a process's stderr up to a line of a beginning."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(beginning):
            return
    raise AssertionError(f"no line began with {beginning!r}")


@pytest.mark.parametrize("number", [signal.SIGINT, in_long(signal.SIGTERM), in_long(signal.SIGHUP)])
@pytest.mark.parametrize("module", ["kdcam.cli.streams", "kdcam.cli.app", "torch"])
def test_a_signal_during_imports_is_one_line(number: signal.Signals, module: str) -> None:
    # Of each module that is imported Python tells as it has been imported; those of a package before the package.
    first_of = {"kdcam.cli.app": "typer._click", "torch": "torch._C"}.get(module, module)
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "kdcam", "doctor"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().rpartition("| ")[2].strip().startswith(first_of):
            break
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    said = [line for line in err.splitlines() if not line.startswith("import time:")]
    name = "Ctrl-C" if number == signal.SIGINT else number.name
    assert (process.returncode, said, out) == (128 + number, [f"kdcam: stopped by {name}"], "")


@pytest.mark.parametrize("gap", [0.0, 0.05])
def test_five_in_a_row_keep_the_state(tmp_path: Path, gap: float) -> None:
    command = ["train", "digits", "--set", "epochs=60", "--output", tmp_path / "run"]
    process = _started(*command)
    _until(process, "epoch 1/60")
    for _ in range(5):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        time.sleep(gap)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert [line.partition(":")[0] for line in err.splitlines() if not line.startswith("epoch")] == [
        "stopping after this step (Ctrl-C); Ctrl-C again, a second later, stops at once",
        "kdcam",
    ]
    assert out == ""
    assert list((tmp_path / "run" / "resume").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, in_long(signal.SIGHUP)])
def test_a_scheduler_stops_a_run_with_data_workers_as_ctrl_c_does(
    photo_recipe: Path, number: signal.Signals
) -> None:
    sets = ["epochs=500", "data.image_size=72", "data.workers=2"]  # above 64 pixels workers decode
    command = ["train", photo_recipe, "--output", "run", *(part for one in sets for part in ("--set", one))]
    process = _started(*command)
    _until(process, "epoch 1/500")
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "the state is kept, the same command goes on" in err
    assert "Traceback" not in err
    assert list(Path("run", "resume").iterdir())


def test_a_scheduler_stops_a_comparison_as_ctrl_c_does(photo_recipe: Path) -> None:
    command = ["compare", photo_recipe, "--seeds", "0..1", "--jobs", "2", "--output", "out"]
    process = _started(*command, "--set", "epochs=500")
    kept = [Path("out") / "runs" / f"photos-{seed}" / "metrics.jsonl" for seed in range(2)]
    while process.poll() is None and not all(path.exists() for path in kept):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped with 0 of 2 runs done; states are kept, the same command goes on" in err
    assert "Traceback" not in err
    assert all(list((path.parent / "resume").iterdir()) for path in kept)


def test_a_scheduler_stops_an_evaluation_that_goes_on(kdcam, digits_run: Path) -> None:
    command = ["evaluate-robustness", digits_run, "--attacks", "pgd-2000", "--no-pictures", "--no-checks"]
    process = _started(*command, "--n-examples", 100, "--batch-size", 1)
    assert process.stderr is not None
    time.sleep(0.1)
    while process.poll() is None and not _heeds(process.pid):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "Traceback" not in err


def _heeds(process: int) -> bool:
    """Return whether a process's own handler takes SIGTERM; Linux tells, elsewhere a second must do."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        time.sleep(1)
        return True
    (caught,) = [line for line in status.read_text().splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
