"""docs/results/distillation.{md,json,png}: distillation methods under one teacher, by `kdcam compare`.

    python benchmarks/distillation_table.py --cifar FOLDER --jobs 2

resnet20 -> resnet8 on the first 600 training and 500 test images of each class of CIFAR-10, sized for two CPU cores
(about half an hour). ``--cifar`` holds train/ and test/ with a folder of pictures a class. The study of map_matching.py
stands in the report where docs/results/map-matching.json is there.

    python benchmarks/distillation_table.py --full --cifar FOLDER --tiny FOLDER --runs FOLDER

runs the 240-epoch protocol for three pairs on CIFAR-10 and Tiny-ImageNet-32 (100 classes); it needs a GPU. Both may be
stopped and started: what is finished is not done again.
"""

import argparse
import os
from pathlib import Path

from distillation_report import write_report

import kdcam
from kdcam.runtime.progress import EpochRecord, Silent

SMALL = Path(__file__).with_name("distillation_small.toml")
METHODS = ("kd", "caam_cam", "kd_caam_cam", "cat_kd", "dkd", "cam_kd")
SEEDS = (0, 1, 2)
PAIRS = ("resnet56-resnet20", "resnet32x4-resnet8x4", "resnet32x4-shufflenetv2")


class Lines(Silent):
    """A line for each message and each epoch."""

    def message(self, text: str) -> None:
        """Print a message."""
        print(text, flush=True)

    warning = message

    def epoch(self, record: EpochRecord) -> None:
        """Print an epoch's validation score."""
        print(
            f"epoch {record.epoch}/{record.epochs}: {record.validation.get('acc1', float('nan')):.3f}",
            flush=True,
        )


def first_of_each_class(source: Path, folder: Path, images: dict[str, int]) -> Path:
    """Return a folder with links to the first pictures of each class of each part, by name."""
    for part, count in images.items():
        for group in sorted(one for one in (source / part).iterdir() if one.is_dir()):
            (folder / part / group.name).mkdir(parents=True, exist_ok=True)
            for picture in sorted(group.iterdir())[:count]:
                link = folder / part / group.name / picture.name
                if not link.exists():
                    os.link(picture, link)
    return folder


def small(arguments: argparse.Namespace) -> None:
    """Run the table for the CPU and write its report."""
    runs: Path = arguments.runs
    data = first_of_each_class(arguments.cifar, runs / "cifar10-6000", {"train": 600, "test": 500})
    root = f'data.root="{data}"'
    taught = arguments.teacher
    if taught is None:
        teacher = kdcam.load_recipe(SMALL, [root, 'model.name="kdcam:resnet20"', "epochs=40"])
        taught = kdcam.train(teacher, output=runs / "teacher-resnet20", progress=Lines()).path
    kdcam.compare(
        base=str(SMALL),
        methods=METHODS,
        sets=[root, 'teacher.cache="views"', "teacher.views=4"],
        teachers=[str(taught)],
        seeds=SEEDS,
        jobs=arguments.jobs,
        output=runs / "small",
        progress=Lines(),
        command=("python", "benchmarks/distillation_table.py"),
    )
    root_of_recipes = str(SMALL.resolve().parent.parent)
    write_report(
        runs / "small",
        arguments.out / "map-matching.json",
        arguments.out,
        replaced={str(runs): "runs/distillation-table", f"{root_of_recipes}/": ""},
    )


def full(arguments: argparse.Namespace) -> None:
    """Run the 240-epoch protocol: a teacher for each pair and set, then all methods."""
    for data, root in (("cifar10", arguments.cifar), ("tiny", arguments.tiny)):
        for pair in PAIRS:
            network = pair.partition("-")[0]
            alone = kdcam.load_recipe(
                f"distillation/{data}-alone",
                [f'data.root="{root}"', f'model.name="kdcam:{network}"'],
            )
            taught = kdcam.train(alone, output=arguments.runs / f"{data}-{network}", progress=Lines())
            kdcam.compare(
                base=f"distillation/{data}-{pair}",
                methods=("alone", *METHODS),
                sets=[f'data.root="{root}"', 'teacher.cache="views"'],
                teachers=[str(taught.path)],
                seeds=SEEDS,
                jobs=arguments.jobs,
                output=arguments.runs / f"{data}-{pair}",
                progress=Lines(),
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar", type=Path, required=True)
    parser.add_argument("--tiny", type=Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--teacher", type=Path, help="a finished run of the small table's teacher")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/distillation-table"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    if arguments.full and arguments.tiny is None:
        parser.error("--full needs --tiny, the folder of Tiny-ImageNet at 32 pixels (train/ and val/)")
    full(arguments) if arguments.full else small(arguments)


if __name__ == "__main__":
    main()
