"""docs/results/losses.md: the losses of the five papers against cross-entropy, on the CPU.

    python benchmarks/losses_table.py --data ../shared/data --unpacked FOLDER --jobs 2

Five problems: digit scenes (boxes known), 6,000 images of MNIST, 13 mammals of Tiny-ImageNet at 32 pixels (similar
classes, few images, from scratch), all of tiny-imagenet32-100 (many classes), digit scenes of several digits (several
labels). ``--data`` holds mnist/, ``--unpacked`` the folder tiny-imagenet32-100 out of its archive. For each loss a
fixed grid of at most six settings is run with seed 100; the setting with the best validation score is run with seeds
0, 1 and 2. The epoch is selected on validation and the test part read once a run. Finished runs are not done again,
so that the script may be stopped and started.
"""

import argparse
import gzip
import json
import struct
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from losses_report import write_report

from kdcam.api import load_run, train
from kdcam.cam.pointing import pointing_scores
from kdcam.embeddings import effective_rank, embeddings_of
from kdcam.recipe import read_recipe

SEARCH_SEED, SEEDS = 100, (0, 1, 2)
MNIST_IMAGES = 8000  # a quarter of them for validation
MAMMALS = (  # noqa: SIM905 (a list would take a line for each)
    "n01882714 n02085620 n02099601 n02106662 n02123045 n02124075 n02129165 n02395406 n02410509 n02423022 n02480495 "
    "n02486410 n02509815"
).split()

Table = dict[str, Any]

SMALL_GRADIENTS: Table = {
    "batch_size": 32,
    "optimizer": {"name": "adamw", "lr": 0.005},
}  # a mean over classes


class Method(NamedTuple):
    """A loss that is added to the problem's plain one, or stands in its place."""

    name: str
    grid: tuple[tuple[Table, ...], ...] = ((),)  # each entry: the terms that it adds
    attention: bool = False  # with the channel-attention block
    alone: bool = False  # without the problem's plain loss


def grid(name: str, **keys: tuple[Any, ...]) -> tuple[tuple[Table, ...], ...]:
    """Return one setting for each position of the tuples."""
    rows = zip(*keys.values(), strict=True)
    return tuple(({"name": name, **dict(zip(keys, row, strict=True))},) for row in rows)


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
    root = str(mnist_subset(data / "mnist", folder / "mnist"))
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


def mnist_subset(source: Path, folder: Path) -> Path:
    """Return a folder with the first 8,000 training images of MNIST and all test images, as idx files."""
    folder.mkdir(parents=True, exist_ok=True)
    for packed in sorted(source.glob("*ubyte.gz")):
        content = gzip.decompress(packed.read_bytes())
        if packed.name.startswith("train"):
            header = 16 if "images" in packed.name else 8
            images = min(MNIST_IMAGES, struct.unpack(">i", content[4:8])[0])
            size = images * (28 * 28 if header == 16 else 1)
            content = content[:4] + struct.pack(">i", images) + content[8 : header + size]
        (folder / packed.name.removesuffix(".gz")).write_bytes(content)
    return folder


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


class Job(NamedTuple):
    """One run."""

    place: Path
    table: Table


def job(runs: Path, problem: Problem, method: Method, setting: tuple[Table, ...], seed: int) -> Job:
    """Return the run of a method with a setting and a seed."""
    model = {"name": "kdcam:resnet8_s2", "channel_attention": method.attention}
    table = {
        "batch_size": 64,
        "seed": seed,
        "model": model,
        "loss": [*([] if method.alone else [{"name": problem.methods[0].name}]), *setting],
        "optimizer": {"name": "sgd", "lr": 0.1, "nesterov": True, "decay_norm_and_bias": False},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        **problem.table,
    }
    words = [f"{key}={value}" for term in setting for key, value in term.items() if key != "name"]
    stem = "-".join([problem.name, method.name, *words, str(seed)]).replace(" ", "_").replace(",", "")
    return Job(runs / stem, table)


def do(one: Job) -> Table:
    """Do a run on one thread, if it is not done yet, and return its measures."""
    torch.set_num_threads(1)
    kept = one.place / "measures.json"
    if kept.exists():
        found: Table = json.loads(kept.read_text())
        return found
    result = train(read_recipe(one.table, source=one.place.name), output=one.place, device="cpu").result
    loaded = load_run(one.place, device="cpu")
    test = loaded.part("test")
    batches = loaded.batches(test)
    several = loaded.recipe.task == "multi-label"
    key = "mean_ap" if several else "acc1"
    measures = {
        "measure": "mean average precision" if several else "top-1 accuracy",
        "validation_score": result["selected"]["validation"][key],
        "validation_nll": result["selected"]["validation"]["nll"],
        "test_score": result["selected"]["test"][key],
        "test_score_last": result["last"]["test"][key],
        "test_nll": result["selected"]["test"]["nll"],
        "effective_rank": effective_rank(embeddings_of(loaded.classifier, batches)),
        "pointing_cam": None,
        "pointing_caam": None,
        "images": result["images"],
    }
    if test.boxes is not None and not several:
        pointing = pointing_scores(loaded.classifier, batches, test.boxes)
        measures |= {"pointing_cam": pointing.label_cam, "pointing_caam": pointing.caam}
    kept.write_text(json.dumps(measures) + "\n")
    print(f"{one.place.name}: test {measures['test_score']:.4f}", file=sys.stderr, flush=True)
    return measures


def best(found: list[Table]) -> int:
    """Return the position of the highest validation score, ties by the smaller negative log-likelihood."""
    return max(range(len(found)), key=lambda i: (found[i]["validation_score"], -found[i]["validation_nll"]))


def measure(problem: Problem, runs: Path, pool: ProcessPoolExecutor) -> list[Table]:
    """Return a row for each method of a problem: its setting, all that were tried, and the measures of three seeds."""
    searches = {
        method.name: [
            pool.submit(do, job(runs, problem, method, setting, SEARCH_SEED)) for setting in method.grid
        ]
        for method in problem.methods
        if len(method.grid) > 1
    }
    plain = {
        method.name: [pool.submit(do, job(runs, problem, method, method.grid[0], seed)) for seed in SEEDS]
        for method in problem.methods
        if len(method.grid) == 1
    }
    rows = []
    for method in problem.methods:
        if method.name in plain:
            rows.append({"method": method.name, "setting": (), "tried": [], "futures": plain[method.name]})
            continue
        tried = [future.result() for future in searches[method.name]]
        chosen = method.grid[best(tried)]
        scores = [one["validation_score"] for one in tried]
        search = [{"setting": s, "validation_score": a} for s, a in zip(method.grid, scores, strict=True)]
        futures = [pool.submit(do, job(runs, problem, method, chosen, seed)) for seed in SEEDS]
        rows.append({"method": method.name, "setting": chosen, "tried": search, "futures": futures})
    for row in rows:
        row["seeds"] = [future.result() for future in row.pop("futures")]
    return rows


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
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        for problem in problems(arguments.data, arguments.unpacked, arguments.runs.resolve()):
            found[problem.name] = {**problem.table, "rows": measure(problem, arguments.runs, pool)}
    write_report(found, arguments.out, seeds=SEEDS, search_seed=SEARCH_SEED)


if __name__ == "__main__":
    main()
