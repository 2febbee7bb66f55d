"""docs/results/explain-memory.json: the memory of `kdcam explain` after 100 and after 1,000 pictures.

    python benchmarks/explain_memory.py --out docs/results/explain-memory.json

An untrained resnet18 with maps of every class asked for, by CAM and by Grad-CAM, on pictures of noise of 64 pixels.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy
import torch
from PIL import Image

import kdcam
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig
from kdcam.runs.checkpoint import save_model
from kdcam.runtime.machine import describe_machine, package_versions
from kdcam.runtime.progress import Silent

AT = (100, 1000)


class Memory(Silent):
    """Notes how much memory the process holds after some pictures."""

    def __init__(self) -> None:
        self.megabytes: dict[int, float] = {}

    def advance(self, task: str, done: int, total: int) -> None:
        """Note it."""
        del task, total
        if done in AT:
            self.megabytes[done] = resident_megabytes()


def resident_megabytes() -> float:
    """Return the memory that the process holds now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * 4096 / 1e6, 1)


def measure(folder: Path, pictures: list[Path], method: str) -> dict[str, float]:
    """Return the megabytes held after each of `AT` pictures."""
    memory = Memory()
    kdcam.explain(
        folder / "run", pictures, output=folder / method, method=method, device="cpu", progress=memory
    )
    return {str(count): megabytes for count, megabytes in memory.megabytes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = ModelConfig(name="resnet18")
        save_model(
            folder / "run", build_classifier(config, num_classes=10, in_channels=3, image_size=64).eval()
        )
        draw = numpy.random.default_rng(0)
        pictures = []
        for number in range(max(AT)):
            pictures.append(folder / f"{number:04}.png")
            noise = draw.integers(0, 256, (64, 64, 3), dtype=numpy.uint8)
            Image.fromarray(noise).save(pictures[-1])
        found = {method: measure(folder, pictures, method) for method in ("cam", "gradcam")}
    report = {
        "resident_megabytes_after_pictures": found,
        "command": "python benchmarks/explain_memory.py",
        "machine": describe_machine(),
        "versions": package_versions(),
    }
    text = json.dumps(report, indent=2) + "\n"
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
