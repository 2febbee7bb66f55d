"""What the tables of losses share: rows with fixed grids, one search seed, fresh seeds, runs that are done once.

For each row its settings are run with seed 100; the setting with the best validation score is run with seeds 0, 1 and
2. The epoch is selected on validation and the test part read once a run. Finished runs are not done again, so that a
script may be stopped and started.
"""

import gzip
import json
import struct
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kdcam.api import train
from kdcam.evaluation.localization.localization_measurement import pointing_scores
from kdcam.recipe.train_recipe import read_recipe
from kdcam.runs.open_run import load_run
from kdcam.scores.embeddings import effective_rank, feature_table

SEARCH_SEED, SEEDS = 100, (0, 1, 2)

Table = dict[str, Any]
Setting = tuple[Table, ...]
"""The loss terms that a row adds, with the constants under search."""


class Row(NamedTuple):
    """A row of a table: a method, and the constants that are tried for it."""

    name: str
    grid: tuple[Setting, ...]
    recipe: Callable[[Setting], Table]  # without seed


class Job(NamedTuple):
    """One run."""

    place: Path
    table: Table
    device: str


def grid(name: str, **keys: tuple[Any, ...]) -> tuple[Setting, ...]:
    """Return one setting for each position of the tuples."""
    rows = zip(*keys.values(), strict=True)
    return tuple(({"name": name, **dict(zip(keys, row, strict=True))},) for row in rows)


def job(runs: Path, title: str, row: Row, setting: Setting, seed: int, device: str) -> Job:
    """Return the run of a row with a setting and a seed."""
    words = [f"{key}={value}" for term in setting for key, value in term.items() if key != "name"]
    stem = "-".join([title, row.name, *words, str(seed)]).replace(" ", "_").replace(",", "")
    return Job(runs / stem, row.recipe(setting) | {"seed": seed}, device)


def do(one: Job) -> Table:
    """Do a run on one thread of the host, if it is not done yet, and return its measures."""
    torch.set_num_threads(1)
    kept = one.place / "measures.json"
    if kept.exists():
        found: Table = json.loads(kept.read_text())
        if found.pop("recipe") == json.loads(json.dumps(one.table)):
            return found
    result = train(read_recipe(one.table, source=one.place.name), output=one.place, device=one.device).result
    loaded = load_run(one.place, device=one.device)
    test = loaded.part("test")
    batches = loaded.batches(test)
    several = loaded.recipe.task == "multi-label"
    key = "mean_ap" if several else "acc1"
    validation = result["selected"]["validation"] or {}
    measures = {
        "measure": "mean average precision" if several else "top-1 accuracy",
        "validation_score": validation.get(key),
        "validation_nll": validation.get("nll"),
        "test_score": result["selected"]["test"][key],
        "test_score_last": result["last"]["test"][key],
        "test_nll": result["selected"]["test"]["nll"],
        "effective_rank": effective_rank(feature_table(loaded.classifier, batches).embeddings),
        "pointing_cam": None,
        "pointing_caam": None,
        "images": result["images"],
    }
    if test.boxes is not None and not several:
        pointing = pointing_scores(loaded.classifier, batches, test.boxes)
        measures |= {"pointing_cam": pointing.label_cam, "pointing_caam": pointing.caam}
    kept.write_text(json.dumps({"recipe": one.table, **measures}) + "\n")
    print(f"{one.place.name}: test {measures['test_score']:.4f}", file=sys.stderr, flush=True)
    return measures


def best(found: list[Table]) -> int:
    """Return the position of the highest validation score, ties by the smaller negative log-likelihood."""
    return max(range(len(found)), key=lambda i: (found[i]["validation_score"], -found[i]["validation_nll"]))


def measure(
    title: str, rows: Sequence[Row], runs: Path, pool: ProcessPoolExecutor, *, device: str = "cpu"
) -> list[Table]:
    """Return what came out of each row: its setting, all that were tried, and the measures of three seeds."""

    def submit(row: Row, setting: Setting, seeds: Sequence[int]) -> list[Any]:
        return [pool.submit(do, job(runs, title, row, setting, seed, device)) for seed in seeds]

    searches = {
        row.name: [submit(row, setting, (SEARCH_SEED,))[0] for setting in row.grid]
        for row in rows
        if len(row.grid) > 1
    }
    plain = {row.name: submit(row, row.grid[0], SEEDS) for row in rows if len(row.grid) == 1}
    found: list[Table] = []
    for row in rows:
        if row.name in plain:
            found.append({"method": row.name, "setting": (), "tried": [], "futures": plain[row.name]})
            continue
        tried = [future.result() for future in searches[row.name]]
        chosen = row.grid[best(tried)]
        scores = [one["validation_score"] for one in tried]
        search = [{"setting": s, "validation_score": a} for s, a in zip(row.grid, scores, strict=True)]
        futures = submit(row, chosen, SEEDS)
        found.append({"method": row.name, "setting": chosen, "tried": search, "futures": futures})
    for one in found:
        one["seeds"] = [future.result() for future in one.pop("futures")]
    return found


def processes(count: int) -> ProcessPoolExecutor:
    """Return a pool of processes of one thread each."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))


def mnist_subset(source: Path, folder: Path, *, images: int) -> Path:
    """Return a folder with the first training images of MNIST and all test images, as idx files."""
    folder.mkdir(parents=True, exist_ok=True)
    for packed in sorted(source.glob("*ubyte.gz")):
        content = gzip.decompress(packed.read_bytes())
        if packed.name.startswith("train"):
            header = 16 if "images" in packed.name else 8
            kept = min(images, struct.unpack(">i", content[4:8])[0])
            size = kept * (28 * 28 if header == 16 else 1)
            content = content[:4] + struct.pack(">i", kept) + content[8 : header + size]
        (folder / packed.name.removesuffix(".gz")).write_bytes(content)
    return folder
