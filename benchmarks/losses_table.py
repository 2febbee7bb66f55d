"""docs/results/losses.md: the losses of the five papers against cross-entropy, on the CPU.

    python benchmarks/losses_table.py --data ../shared/data --unpacked FOLDER --jobs 2

Five problems: digit scenes (boxes known), 6,000 images of MNIST, 13 mammals of Tiny-ImageNet at 32 pixels (similar
classes, few images, from scratch), all of tiny-imagenet32-100 (many classes), digit scenes of several digits (several
labels). ``--data`` holds mnist/, ``--unpacked`` the folder tiny-imagenet32-100 out of its archive. How
constants are chosen and runs are scored stands in grid_runs.py.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from grid_runs import SEARCH_SEED, SEEDS, Row, Setting, Table, grid, measure, mnist_subset, processes
from losses_report import write_report

MNIST_IMAGES = 8000  # a quarter of them for validation
MAMMALS = (  # noqa: SIM905 (a list would take a line for each)
    "n01882714 n02085620 n02099601 n02106662 n02123045 n02124075 n02129165 n02395406 n02410509 n02423022 n02480495 "
    "n02486410 n02509815"
).split()

SMALL_GRADIENTS: Table = {
    "batch_size": 32,
    "optimizer": {"name": "adamw", "lr": 0.005},
}  # a mean over classes


class Method(NamedTuple):
    """A loss that is added to the problem's plain one, or stands in its place."""

    name: str
    grid: tuple[Setting, ...] = ((),)  # each entry: the terms that it adds
    attention: bool = False  # with the channel-attention block
    alone: bool = False  # without the problem's plain loss


CROSS_ENTROPY = Method("cross_entropy")
CAM = Method("cam", grid("cam", weight=(1.0, 3.0, 10.0)))
HNC_MSE = Method("hnc_mse", grid("hnc_mse", weight=(0.003, 0.01, 0.03, 0.01), top_k=(12, 12, 12, 3)))
HNC_KD = Method("hnc_kd", grid("hnc_kd", weight=(0.01, 0.05, 0.2, 0.05), top_k=(12, 12, 12, 3)))
MUTUAL_CHANNEL = Method(
    "mutual_channel",
    grid("mutual_channel", weight=(0.15, 0.5, 0.5, 1.5), diversity_weight=(10.0, 0.0, 10.0, 10.0)),
)
ATTENTION = Method("attention block alone", attention=True)
CHANNEL_CORRELATION = Method(
    "channel_correlation",
    grid("channel_correlation", weight=(0.03, 0.1, 0.3, 0.1), form=("ratio", "ratio", "ratio", "margin")),
    attention=True,
)
INCLUDE_EXCLUDE = Method(
    "include_exclude",
    grid("include_exclude", weight=(0.03, 0.1, 0.3, 0.1), form=("hinge", "hinge", "hinge", "log-ratio")),
)
BINARY = Method("binary_cross_entropy")
FOCAL = Method("sigmoid_focal", (({"name": "sigmoid_focal"},),), alone=True)
ALL = (CROSS_ENTROPY, CAM, HNC_MSE, HNC_KD, MUTUAL_CHANNEL, ATTENTION, CHANNEL_CORRELATION, INCLUDE_EXCLUDE)


class Problem(NamedTuple):
    """Data, network and schedule that all methods share."""

    name: str
    table: Table
    methods: tuple[Method, ...]  # the plain one first


def problems(data: Path, unpacked: Path, folder: Path) -> list[Problem]:
    """Return what is run, easiest first."""
    scenes = {"name": "digit-scenes", "image_size": 48, "augment": ["crop"]}
    root = str(mnist_subset(data / "mnist", folder / "mnist", images=MNIST_IMAGES))
    mnist = {"name": "mnist", "root": root, "augment": ["crop"], "validation": 0.25}
    mammals = {
        "name": "image-folder",
        "root": str(mammal_folder(unpacked, folder)),
        "image_size": 32,
        "test": 0.25,
    }
    many = {"name": "image-folder", "root": str(many_folder(unpacked, folder)), "image_size": 32}
    pictures = {"augment": ["crop", "flip"], "validation": 0.1}
    small = (CROSS_ENTROPY, HNC_MSE, HNC_KD, MUTUAL_CHANNEL)
    large = (CROSS_ENTROPY, ATTENTION, CHANNEL_CORRELATION._replace(grid=CHANNEL_CORRELATION.grid[:3]))
    return [
        Problem("digit scenes", {"epochs": 12, "data": scenes}, ALL),
        Problem("MNIST, 6,000 images", {"epochs": 6, "data": mnist}, ALL),
        Problem("13 mammals", {"epochs": 24, "data": mammals | pictures}, small),
        Problem("tiny-imagenet32-100", {"epochs": 10, "data": many | pictures}, large),
        Problem(
            "digit scenes of several digits",
            {"epochs": 12, "task": "multi-label", "data": scenes | {"multi_label": True}, **SMALL_GRADIENTS},
            (BINARY, FOCAL, CAM._replace(grid=grid("cam", weight=(0.1, 0.3, 1.0))), HNC_MSE, HNC_KD),
        ),
    ]


def mammal_folder(unpacked: Path, folder: Path) -> Path:
    """Return a folder with a folder of links for each mammal, training and validation images together."""
    for name in MAMMALS:
        (folder / "mammals" / name).mkdir(parents=True, exist_ok=True)
        for part in ("train", "val"):
            link(folder / "mammals" / name / part, unpacked / "tiny-imagenet32-100" / part / name)
    return folder / "mammals"


def many_folder(unpacked: Path, folder: Path) -> Path:
    """Return a folder in which the authors' validation images are the test part."""
    (folder / "many").mkdir(parents=True, exist_ok=True)
    for part, theirs in (("train", "train"), ("test", "val")):
        link(folder / "many" / part, unpacked / "tiny-imagenet32-100" / theirs)
    return folder / "many"


def link(place: Path, target: Path) -> None:
    if not place.exists():
        place.symlink_to(target.resolve(), target_is_directory=True)


def row(problem: Problem, method: Method) -> Row:
    """Return a method as a row of a problem's table."""

    def recipe(setting: Setting) -> Table:
        return {
            "batch_size": 64,
            "model": {"name": "kdcam:resnet8_s2", "channel_attention": method.attention},
            "loss": [*([] if method.alone else [{"name": problem.methods[0].name}]), *setting],
            "optimizer": {"name": "sgd", "lr": 0.1, "nesterov": True, "decay_norm_and_bias": False},
            "schedule": {"name": "cosine", "warmup_epochs": 1},
            **problem.table,
        }

    return Row(method.name, method.grid, recipe)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist/")
    parser.add_argument("--unpacked", type=Path, required=True, help="folder with tiny-imagenet32-100/")
    parser.add_argument("--runs", type=Path, default=Path("runs/losses-table"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    arguments = parser.parse_args()
    found = {}
    with processes(arguments.jobs) as pool:
        for problem in problems(arguments.data, arguments.unpacked, arguments.runs.resolve()):
            rows = [row(problem, method) for method in problem.methods]
            measured = measure(problem.name, rows, arguments.runs, pool)
            found[problem.name] = {**problem.table, "rows": measured}
    write_report(found, arguments.out, seeds=SEEDS, search_seed=SEARCH_SEED)


if __name__ == "__main__":
    main()
