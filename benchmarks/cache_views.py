"""docs/results/cache-views.md: how many views of each image a teacher cache needs, at a long schedule.

    python benchmarks/cache_views.py --cifar FOLDER --jobs 2

resnet20 -> resnet8_s2 by kd, 60 epochs on the 5,000 training images of distillation_table.py (run that first: its
teacher is used), with a live teacher and with caches of 1 to 16 views.
"""

import argparse
from pathlib import Path

from distillation_table import SEEDS, SMALL, Lines, first_of_each_class

import kdcam

VIEWS = (1, 2, 4, 8, 16)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--runs", type=Path, default=Path("runs/distillation-table"))
    arguments = parser.parse_args()
    runs: Path = arguments.runs
    data = first_of_each_class(arguments.cifar, runs / "cifar10-6000", {"train": 600, "test": 500})
    settings = {"live": ""} | {f"views-{count}": f'cache = "views"\nviews = {count}\n' for count in VIEWS}
    recipes = runs / "cache-views-recipes"
    recipes.mkdir(parents=True, exist_ok=True)
    for name, keys in settings.items():
        text = 'method = "kd"\n' + SMALL.read_text().replace('[[loss]]\nname = "cross_entropy"\n', "")
        teacher = f'\n[teacher]\ncheckpoint = "{runs / "teacher-resnet20"}"\n{keys}'
        (recipes / f"{name}.toml").write_text(text + teacher)
    comparison = kdcam.compare(
        [str(recipes / f"{name}.toml") for name in settings],
        sets=[f'data.root="{data}"', 'model.name="kdcam:resnet8_s2"', f"epochs={arguments.epochs}"],
        seeds=SEEDS,
        jobs=arguments.jobs,
        output=runs / "cache-views",
        progress=Lines(),
        command=("python", "benchmarks/cache_views.py"),
    )
    print(comparison.to_markdown())


if __name__ == "__main__":
    main()
