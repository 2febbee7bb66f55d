"""One epoch from each example recipe on real data: MNIST's idx files, CIFAR-10 and Tiny-ImageNet-32 as image folders.

    python benchmarks/real_data.py --mnist DIR --cifar10 DIR --tiny DIR --out docs/results/real-data.json

A proof that the recipes run on the real files, whole; one epoch says nothing about what they reach.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import kdcam
from kdcam.runtime.machine import describe_machine, package_versions

RECIPES = {
    "mnist": "examples/mnist",
    "cifar10": "examples/cifar10-folder",
    "tiny": "examples/tiny-imagenet32-folder",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in RECIPES:
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = {}
    for name, recipe in RECIPES.items():
        overrides = ["epochs=1", "schedule.warmup_epochs=0", f'data.root="{getattr(arguments, name)}"']
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found = kdcam.train(kdcam.load_recipe(recipe, overrides), output=Path(folder) / "run")
            metrics = json.loads((found.path / "metrics.jsonl").read_text())
        rows[name] = {
            "recipe": recipe,
            "images": found.result["images"],
            "validation_acc1": found.result["selected"]["validation"]["acc1"],
            "test_acc1": found.result["selected"]["test"]["acc1"],
            "images_per_second": metrics["images_per_second"],
            "seconds_with_reading": round(time.monotonic() - start, 1),
        }
        print(json.dumps({name: rows[name]}), flush=True)
    result = {
        "rows": rows,
        "rule": "one epoch, seed 0; cam starts halfway through it",
        "machine": describe_machine(),
        "versions": package_versions(),
        "command": "python benchmarks/real_data.py --mnist DIR --cifar10 DIR --tiny DIR",
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
