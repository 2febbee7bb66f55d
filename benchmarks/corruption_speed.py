"""How many pictures a second each corruption takes, on one core.

    OMP_NUM_THREADS=1 python benchmarks/corruption_speed.py --out docs/results/corruption-speed.json

Batches of coloured handwritten digits, all five severities of a corruption in a pass; passes of all corruptions are
interleaved in random order, so that a change of the machine's speed meets all alike. Medians over the passes. The goal
is 2,000 pictures of 32 pixels a second for each corruption. Run it on an idle machine.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import facts, timed
from torch import Tensor
from torch.nn.functional import interpolate

from kdcam.corruptions.corruption_list import CORRUPTIONS, SEVERITIES
from kdcam.corruptions.image_corruption import corrupt
from kdcam.data.batches.resident import to_float
from kdcam.data.datasets import load_data
from kdcam.data.source_configs import DigitsConfig

GOAL = 2000
SIZES = ((32, 200), (64, 50), (224, 8))  # side, pictures in a batch


def pictures(count: int, size: int) -> Tensor:
    """Return (N, 3, S, S) in [0, 1]: digits of one colour on a ground of another."""
    pixels = load_data(DigitsConfig(name="digits")).train.images.pixels[:count]
    shapes = to_float(pixels.permute(0, 2, 3, 1), pixels.shape[-1])[:, :1]
    shapes = interpolate(shapes, (size, size), mode="bilinear")
    colours = torch.rand(2, count, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    return (shapes * colours[0] + (1 - shapes) * colours[1]).contiguous(memory_format=torch.channels_last)


def all_severities(name: str, images: Tensor, indices: Tensor) -> None:
    for severity in SEVERITIES:
        corrupt(name, images, severity=severity, indices=indices)


def measure(size: int, count: int, *, steps: int) -> dict[str, Any]:
    """Return the pictures a second of each corruption, and of all of them in turn."""
    images, indices = pictures(count, size), torch.arange(count)
    jobs = {name: partial(all_severities, name, images, indices) for name in CORRUPTIONS}
    seconds = {name: float(np.median(values)) for name, values in timed(jobs, steps=steps).items()}
    made = count * len(SEVERITIES)
    rates = {name: round(made / spent) for name, spent in seconds.items()}
    return {
        "image_size": size,
        "batch_size": count,
        "images_per_second": rates,
        "slowest": min(rates, key=rates.__getitem__),
        "mean_images_per_second": round(made * len(seconds) / sum(seconds.values())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = [measure(size, count, steps=arguments.steps) for size, count in SIZES]
    report = {
        "goal": f"{GOAL} pictures of 32 pixels a second for each corruption, on one core",
        "reached": min(cases[0]["images_per_second"].values()) >= GOAL,
        "steps": arguments.steps,
        "cases": cases,
        **facts(),
        "command": "OMP_NUM_THREADS=1 python benchmarks/corruption_speed.py",
    }
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
