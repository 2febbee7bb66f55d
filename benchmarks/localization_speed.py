"""How fast the boxes of maps are found at all thresholds: kdcam beside labelling and tracing level by level.

    python benchmarks/localization_speed.py --out docs/results/localization-speed.json

Smooth maps of random 7 x 7 and 14 x 14 values, brought to 224 pixels as `kdcam localize` does. "kdcam" is all that
MaxBoxAccV2 and V1 need of a map, overlaps with its boxes included. "scipy.ndimage, 255 levels" labels each level and
asks for the regions' boxes; "OpenCV, 255 levels" traces contours at each level, once for each that is distinct; and
"OpenCV, 1000 thresholds" as published code does, once for each threshold. The last three find boxes only.
Runs are interleaved in random order; medians for one map and a 95 % bootstrap interval of each ratio to kdcam are
printed. Needs OpenCV (it comes with grad-cam). Run it on an idle machine.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import facts, rows, timed
from numpy.typing import NDArray
from scipy import ndimage

from kdcam.evaluation.localization.box_accuracy import level_overlaps
from kdcam.evaluation.localization.localization_measurement import byte_maps

SIDE = 224
TOGETHER = 8  # maps in a call of kdcam
KDCAM = "kdcam"
Maps = NDArray[np.uint8]


def by_labelling(map_: Maps) -> int:
    found = 0
    for level in range(255):
        labels, _ = ndimage.label(map_ > level, np.ones((3, 3)))
        found += len(ndimage.find_objects(labels))
    return found


def by_tracing(map_: Maps, levels: list[int]) -> int:
    import cv2

    found = 0
    for level in levels:
        _, mask = cv2.threshold(map_, level, 255, cv2.THRESH_BINARY)
        outlines, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        found += len([cv2.boundingRect(outline) for outline in outlines])
    return found


def measure(cells: int, *, rounds: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    maps = byte_maps(torch.rand(TOGETHER, cells, cells, generator=generator), SIDE).numpy()
    boxes = np.tile(np.array([40.0, 50.0, 160.0, 180.0]), (TOGETHER, 1, 1))
    thresholds = [int(threshold * 255) for threshold in np.arange(0, 1, 0.001)]
    jobs: dict[str, Callable[[], object]] = {
        KDCAM: partial(level_overlaps, maps, boxes),
        "kdcam, wsol": partial(level_overlaps, maps, boxes, contours="wsol"),
        "scipy.ndimage, 255 levels": partial(by_labelling, maps[0]),
        "OpenCV, 255 levels": partial(by_tracing, maps[0], list(range(255))),
        "OpenCV, 1000 thresholds": partial(by_tracing, maps[0], thresholds),
    }
    seconds = {
        name: values / TOGETHER if name.startswith("kdcam") else values
        for name, values in timed(jobs, steps=rounds).items()
    }
    found = rows(seconds, KDCAM)
    for name, row in found.items():
        row["maps_per_second"] = round(1 / float(np.median(seconds[name])), 1)
    return {"map": f"{cells} x {cells}, brought to {SIDE} x {SIDE}", "rounds": rounds, "jobs": found}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trial", action="store_true", help="2 rounds of each, to see that it works")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "times": "milliseconds for one map",
        "maps": [measure(cells, rounds=2 if arguments.trial else 30) for cells in (7, 14)],
        "command": "python benchmarks/localization_speed.py",
        **facts(),
    }
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
