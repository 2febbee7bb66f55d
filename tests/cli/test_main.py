import subprocess
import sys
import time
from importlib.metadata import version

import pytest

# Loads the entry point as the installed script does, and says what was imported by the time it exits.
IMPORTS = """
import sys
from importlib.metadata import entry_points
sys.argv = ["kdcam", *sys.argv[1:]]
(script,) = entry_points(group="console_scripts", name="kdcam")
try:
    script.load()()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""
HEAVY = {"torch", "timm", "torchvision", "sklearn", "matplotlib", "PIL", "numpy", "rich"}


def imported_by(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["compare", "--help"], ["recipes", "show", "digits"]]
)
def test_imports_nothing_heavy(arguments: list[str]) -> None:
    assert not imported_by(*arguments) & HEAVY


def test_help_comes_at_once() -> None:
    command = [sys.executable, "-m", "kdcam", "--help"]
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.7
    assert "train" in done.stdout
    assert done.stderr == ""


def test_help_names_every_command(kdcam) -> None:
    found = kdcam("--help")
    assert found.code == 0
    for command in (
        "train",
        "distill",
        "finetune",
        "few-shot",
        "verify",
        "localize",
        "compare",
        "evaluate",
        "evaluate-robustness",
        "predict",
        "report",
        "recipes",
        "losses",
        "models",
        "doctor",
    ):
        assert f"  {command} " in found.out


def test_version(kdcam) -> None:
    assert kdcam("--version") == (0, version("kdcam") + "\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "No such command"),
        (["train"], "Missing argument"),
        (["train", "digits", "--resume", "maybe"], "--resume"),
        (["train", "digits", "--epochs", "3"], "No such option"),
        (["evaluate", "run", "--part", "tset"], "--part"),
        (["predict", "run"], "Missing argument"),
    ],
)
def test_bad_usage_exits_with_2(kdcam, arguments: list[str], said: str) -> None:
    found = kdcam(*arguments)
    assert found.code == 2
    assert said in found.err
    assert found.out == ""


def test_a_keyboard_interrupt_exits_with_130(kdcam, module, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kdcam.api.predict", interrupted)
    assert kdcam("predict", "run", "image.png").code == 130
