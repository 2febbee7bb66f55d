"""docs/results/verification.md: face verification after training with six losses, on the CPU.

    python benchmarks/verification_table.py --data ../shared/data --jobs 2 [--lfwcrop]

ORL: 30 people for training, all 450 pairs of one person and as many of two among the ten others. LFWcrop (--lfwcrop):
the people with ten pictures or more who are in no pair for training, and four of the ten folds of LFW's test pairs.
``--data`` holds the archives; they are unpacked into the folder of the runs.

For each loss its settings are run with seed 100 on fewer people (six of ORL's 30, fifteen of LFWcrop's, are left out),
and the one with the largest area under the ROC curve on pairs of those left out is run with seeds 0, 1 and 2 on all
people for training. The weights are those of the last epoch. Pairs under test are read once a run. Finished runs are
not done again, so that the script may be stopped and started; where the pairs or their pictures have changed since, a
run is asked anew. Scale, learning rates, epochs and the grids are kdcam's choice and not searched.
"""

import argparse
import json
import sys
import tarfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from grid_runs import SEARCH_SEED, SEEDS, Setting, Table, grid, processes
from verification_report import write_report

from kdcam.api import train
from kdcam.data.common_config import ClassSplitConfig
from kdcam.data.identity_folder import IdentityFolder
from kdcam.data.splits.class_split import split_classes
from kdcam.data.verification_pairs import folds_of, read_pairs
from kdcam.evaluation.verification.pair_drawing import make_pairs
from kdcam.evaluation.verification.verification_evaluation import verify
from kdcam.recipe.train_recipe import read_recipe

_LABELS: Table = {"name": "cross_entropy"}
COSINE: Table = {"head": "cosine", "scale": 16.0}  # kdcam's choice
METHODS: dict[str, tuple[Table, tuple[Setting, ...]]] = {
    "cross_entropy": ({}, ((_LABELS,),)),
    "include_exclude": (
        {},
        tuple((_LABELS, *terms) for terms in grid("include_exclude", weight=(0.03, 0.1, 0.3))),
    ),
    "center": ({}, tuple((_LABELS, *terms) for terms in grid("center", weight=(0.001, 0.003, 0.01)))),
    "arcface": (COSINE, grid("arcface", margin=(0.1, 0.3, 0.5))),
    "cosface": (COSINE, grid("cosface", margin=(0.1, 0.2, 0.35))),
    "asoftmax": ({"head": "unit-weight"}, grid("asoftmax", anneal_gamma=(0.12, 0.5, 2.0))),
}
"""Keys of the model, and the settings that are tried."""


class Problem(NamedTuple):
    """Pictures for training with and without the people of the search, and pairs of others."""

    name: str
    table: Table  # what all recipes share
    search_data: Table
    data: Table
    faces: Path
    search_pairs: Path
    pairs: Path


class Job(NamedTuple):
    """One run and the pairs that it is asked."""

    place: Path
    table: Table
    faces: Path
    pairs: Path


def unpacked(archive: Path, name: str, folder: Path) -> Path:
    """Return the top folder of an archive, unpacked below ``folder`` if it is not there yet."""
    if not (folder / name).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar:
            tar.extractall(folder / f"{name}.part", filter="data")
        (folder / f"{name}.part" / name).rename(folder / name)
    return folder / name


def orl(data: Path, folder: Path) -> Problem:
    faces = unpacked(data / "orl_faces.tar.xz", "orl_faces", folder)
    people = sorted(IdentityFolder(faces).people)
    split = split_classes(people, ClassSplitConfig(novel=10, validation=6))
    pictures = {"name": "image-folder", "root": str(faces), "image_size": 48, "channels": 1}
    pictures |= {"test": 0.0, "augment": ["crop", "flip"]}
    return Problem(
        "ORL",
        {"epochs": 60, "batch_size": 32},
        pictures | {"class_split": {"novel": 10, "validation": 6}},
        pictures | {"class_split": {"novel": 10}},
        faces,
        make_pairs(faces, folder / "orl-search-pairs.txt", people=split["validation"]).file,
        make_pairs(faces, folder / "orl-pairs.txt", people=split["novel"]).file,
    )


def lfwcrop(data: Path, folder: Path) -> Problem:
    top = unpacked(data / "lfwcrop64-subset.tar", "lfwcrop64", folder)
    faces, training = top / "faces", folder / "lfwcrop-training"
    tested = set(read_pairs(top / "lists", faces).people)
    identities = IdentityFolder(faces)
    training.mkdir(exist_ok=True)
    for name in identities.people:
        if name not in tested and len(identities.pictures(name)) >= 10 and not (training / name).exists():
            (training / name).symlink_to((faces / name).resolve(), target_is_directory=True)
    people = sorted(IdentityFolder(training).people)
    split = split_classes(people, ClassSplitConfig(novel=15))
    pictures = {"name": "image-folder", "root": str(training), "image_size": 64, "test": 0.0}
    pictures["augment"] = ["crop", "flip"]
    return Problem(
        "LFWcrop, four folds",
        {"epochs": 20, "batch_size": 64},
        pictures | {"class_split": {"novel": 15}},
        pictures,
        faces,
        make_pairs(faces, folder / "lfwcrop-search-pairs.txt", people=split["novel"]).file,
        top / "lists",
    )


def recipe(problem: Problem, method: str, setting: Setting, *, seed: int, search: bool) -> Table:
    head = METHODS[method][0]
    return {
        **problem.table,
        "seed": seed,
        "select": "last",
        "data": problem.search_data if search else problem.data,
        "model": {"name": "kdcam:resnet8_s2", **head},
        "loss": list(setting),
        "optimizer": {"name": "sgd", "lr": 0.05 if method == "asoftmax" else 0.1, "nesterov": True},
        "schedule": {"name": "cosine", "warmup_epochs": 2},
    }


def job(runs: Path, problem: Problem, method: str, setting: Setting, *, seed: int, search: bool) -> Job:
    words = [f"{key}={value}" for term in setting for key, value in term.items() if key != "name"]
    stem = "-".join([problem.name.split(",")[0], method, *words, str(seed)])
    table = recipe(problem, method, setting, seed=seed, search=search)
    return Job(runs / stem, table, problem.faces, problem.search_pairs if search else problem.pairs)


def do(one: Job) -> Table:
    """Do a run and its verification on one thread, if they are not done yet, and return its measures."""
    torch.set_num_threads(1)
    kept = one.place / "measures.json"
    if kept.exists():
        found: Table = json.loads(kept.read_text())
        same_recipe = found.pop("recipe") == json.loads(json.dumps(one.table))
        if same_recipe and found["pairs"]["sha256"] == asked(one):
            return found
    result = train(read_recipe(one.table, source=one.place.name), output=one.place, device="cpu").result
    measures = measured(one.place, one) | {"images": result["images"]}
    kept.write_text(json.dumps({"recipe": one.table, **measures}) + "\n")
    print(f"{one.place.name}: {measures['accuracy']:.4f}", file=sys.stderr, flush=True)
    return measures


def asked(one: Job) -> str:
    """Return the digest of a job's pairs as they are now."""
    pairs = read_pairs(one.pairs, one.faces)
    return pairs.digest(folds_of(pairs, None))


def measured(network: Path, one: Job) -> Table:
    (report,) = verify(network, one.pairs, one.faces, device="cpu")
    return {
        **report.headline(),
        "accuracy_std": report.scores.std,
        "pairs": {key: value for key, value in report.pairs.items() if key not in ("file", "root")},
    }


def rows(problem: Problem, runs: Path, pool: ProcessPoolExecutor) -> list[dict[str, Any]]:
    """Return what came out of each loss: its setting, all that were tried, the measures of three seeds."""

    def submit(method: str, setting: Setting, seed: int, *, search: bool) -> Any:
        return pool.submit(do, job(runs, problem, method, setting, seed=seed, search=search))

    searches = {
        name: [submit(name, setting, SEARCH_SEED, search=True) for setting in settings]
        for name, (_, settings) in METHODS.items()
        if len(settings) > 1
    }
    futures, found = {}, []
    for name, (_, settings) in METHODS.items():
        tried = [future.result()["auc"] for future in searches.get(name, [])]
        chosen = settings[tried.index(max(tried))] if tried else settings[0]
        search = [{"setting": s, "auc": auc} for s, auc in zip(settings, tried, strict=False)]
        found.append({"method": name, "setting": chosen, "tried": search})
        futures[name] = [submit(name, chosen, seed, search=False) for seed in SEEDS]
    for row in found:
        row["seeds"] = [future.result() for future in futures[row["method"]]]
    told = Counter(json.dumps(one["pairs"]) for row in found for one in row["seeds"])
    assert len(told) == 1, "the runs were asked other pairs; remove their folders"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the archives")
    parser.add_argument("--runs", type=Path, default=Path("runs/verification-table"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--lfwcrop", action="store_true", help="LFWcrop, too")
    arguments = parser.parse_args()
    found = {}
    with processes(arguments.jobs) as pool:
        for make in (orl, lfwcrop) if arguments.lfwcrop else (orl,):
            problem = make(arguments.data, arguments.runs.resolve())
            found[problem.name] = {**problem.table, "rows": rows(problem, arguments.runs.resolve(), pool)}
    write_report(found, arguments.out, seeds=SEEDS, search_seed=SEARCH_SEED)


if __name__ == "__main__":
    main()
