"""Run every command of kdcam once on small data: each ends with 0, without a traceback or a Python warning."""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy
import typer.main
from PIL import Image

SCENES = """
epochs = 1
batch_size = 16
[data]
name = "digit-scenes"
image_size = 16
train_size = 150
test_size = 40
validation = 0.25
class_split.novel = 3
[model]
name = "kdcam:resnet8_s2"
"""
COMMANDS = """
--version
doctor
losses list
losses show cam
models list
recipes list
recipes show digits
recipes schema
quickstart --quiet
train digits --set epochs=1 --output runs/digits
train digits --set epochs=1 --output runs/digits
distill digits --set epochs=1 --teacher runs/digits --method kd_caam_cam --output runs/student
finetune digits --from runs/digits --set epochs=1 --output runs/tuned
evaluate runs/student
evaluate runs/student --part validation --json
evaluate-robustness runs/digits runs/student --n-examples 20 --figures figures
evaluate-robustness runs/digits --attacks standard --n-examples 10
evaluate-robustness runs/digits --attacks none --corruptions all --severities 5 --calibration
evaluate-robustness runs/digits --attacks none --ood faces
recipes new faces --output faces.toml
train faces.toml --set epochs=1 --set model.name=kdcam:resnet8 --set model.pretrained=false --output runs/faces
evaluate runs/faces
predict runs/faces faces/ann/0.png faces/bob/1.png
explain runs/digits --run runs/student faces/ann/0.png
explain runs/faces faces/ann/0.png --method gradcam
make-pairs faces --output pairs.txt --folds 3
verify runs/faces --pairs pairs.txt --root faces --folds 3 --allow-seen
few-shot runs/digits --root faces --ways 3 --queries 1 --episodes 5
compare scenes.toml --losses cross_entropy,focal --seeds 0,1 --jobs 2 --output compared
train scenes.toml --output runs/scenes
few-shot runs/scenes --ways 3 --queries 2 --episodes 5
localize runs/scenes --figures figures
report runs/digits runs/student runs/faces --output report.html
report compared
train digits --set epochs=1 --set model.name=resnet10t --set data.image_size=64 --output runs/timm
export runs/timm --format timm --output timm
export runs/student --format onnx --output student.onnx
export runs/student --format torch-export --output student.pt2
"""
UNWANTED = re.compile(r"^Traceback|\w*Warning: |^\s*warnings\.warn\(", re.MULTILINE)


def faces(folder: Path) -> None:
    """Make three people's folders of six noisy gray pictures each."""
    drawn = numpy.random.default_rng(0)
    for name in ("ann", "bob", "cy"):
        (folder / name).mkdir(parents=True)
        face = drawn.integers(0, 60, (32, 32))
        for number in range(6):
            pixels = (face + drawn.integers(0, 190, (32, 32))).astype("uint8")
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def leaves(command: object, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the words of each command below a group."""
    inner: dict[str, object] = getattr(command, "commands", {})
    if not inner:
        yield " ".join(path)
    for name, found in inner.items():
        yield from leaves(found, (*path, name))


def not_run() -> list[str]:
    """Return the commands that ``COMMANDS`` leaves out."""
    known = leaves(typer.main.get_command(import_module("kdcam.cli.app").app))
    return [name for name in known if not re.search(rf"^{re.escape(name)}\b", COMMANDS, re.MULTILINE)]


def run(line: str, folder: Path) -> list[str]:
    """Run one command in a folder and return what is wrong with it."""
    start = time.monotonic()
    # Not by `python -m`: what users type is the entry point.
    script = Path(sys.executable).with_name("kdcam")
    found = subprocess.run(
        [script, *shlex.split(line)],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    wrong = [] if found.returncode == 0 else [f"exit code {found.returncode}"]
    if UNWANTED.search(found.stdout + found.stderr):
        wrong.append("a traceback or a Python warning")
    print(f"{time.monotonic() - start:5.1f} s  kdcam {line}  {'; '.join(wrong) or 'ok'}", flush=True)
    if wrong:
        print(found.stdout[-2000:], found.stderr[-6000:], sep="\n", flush=True)
    return [f"kdcam {line}: {what}" for what in wrong]


def main() -> None:
    """Run all commands, go on after a failure, and exit with 1 where any failed or was left out."""
    folder = Path(tempfile.mkdtemp())
    try:
        faces(folder / "faces")
        (folder / "scenes.toml").write_text(SCENES, encoding="utf-8")
        wrong = [f"kdcam {name}: is not run by this script" for name in not_run()]
        for line in COMMANDS.strip().splitlines():
            wrong += run(line, folder)
    finally:
        shutil.rmtree(folder)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
