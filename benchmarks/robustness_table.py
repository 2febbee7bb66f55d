"""docs/results/robustness.{md,json,png}: losses, their students and wrong labels under attacks and corruptions.

    python benchmarks/robustness_table.py --data ../shared/data --jobs 2

MNIST sized for two CPU cores: teachers (resnet14_s2) by four losses and by adversarial training, students (resnet8_s2)
distilled from each by kd and caam_cam, and wrong training labels. ``--data`` holds mnist/. Runs and evaluations that
are finished are not done again, so that it may be stopped and started; ``--checks-anew`` makes the checks of finished
runs again and keeps their numbers. ``--full`` takes all of MNIST, resnet20 and resnet8, and all test images; it needs a
GPU.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from grid_runs import SEEDS, mnist_subset, processes
from robustness_report import write_report

from kdcam.api import distill, train
from kdcam.evaluation.robustness.robustness_evaluation import evaluate_robustness
from kdcam.evaluation.robustness.robustness_file import RunRobustness
from kdcam.recipe.train_recipe import read_recipe

Table = dict[str, Any]

EPS = 0.1
CURVE = (0.05, 0.1, 0.15, 0.2, 0.3)
RATES = (0.2, 0.4, 0.6)
_LABELS = {"name": "cross_entropy"}

# Constants: of the losses' MNIST rows in docs/results/losses.md (chosen on validation), else their cards' defaults.
LOSSES: dict[str, list[Table]] = {
    "cross_entropy": [_LABELS],
    "cam": [_LABELS, {"name": "cam", "weight": 10.0}],
    "hnc_mse": [_LABELS, {"name": "hnc_mse", "weight": 0.03, "top_k": 9}],
    "guided_complement_entropy": [{"name": "guided_complement_entropy"}],
}
STUDENTS: dict[str, list[Table]] = {
    "kd": [{**_LABELS, "weight": 0.1}, {"name": "kd", "weight": 0.9}],
    "caam_cam": [_LABELS, {"name": "caam_cam"}],
}
ADVERSARY = {"attack": "pgd", "eps": 0.15, "alpha": 0.05, "steps": 5}
ADAM = {"name": "adamw", "lr": 0.002}  # SGD with a large rate stays at chance level for long under attack


class Size(NamedTuple):
    """How much is done."""

    images: int  # for training; a third of them on top for validation
    epochs: int
    teacher: str
    student: str
    attacked: int  # test images under the strong attacks and corruptions
    on_curve: int  # test images of the curve against eps


SIZED = Size(6000, 8, "kdcam:resnet14_s2", "kdcam:resnet8_s2", 100, 250)
FULL = Size(45000, 20, "kdcam:resnet20", "kdcam:resnet8", 10000, 10000)


class Job(NamedTuple):
    """One run and its evaluation."""

    place: Path
    table: Table
    size: Size
    device: str
    checks_anew: bool = False


def recipe(size: Size, root: Path, network: str, losses: list[Table], **more: Any) -> Table:
    """Return the recipe that all runs share but for network and losses."""
    return {
        "epochs": size.epochs,
        "batch_size": 64,
        "data": {"name": "mnist", "root": str(root), "validation": 0.25, **more.pop("data", {})},
        "model": {"name": network},
        "loss": losses,
        "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 5e-4},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        **more,
    }


def teachers(size: Size, root: Path) -> dict[str, Table]:
    """Return the recipe of each teacher."""
    found = {name: recipe(size, root, size.teacher, losses) for name, losses in LOSSES.items()}
    robust = {"adversary": ADVERSARY, "optimizer": ADAM}
    return found | {"madry": recipe(size, root, size.teacher, [_LABELS], **robust)}


def students(size: Size, root: Path, runs: Path, seed: int) -> dict[str, Table]:
    """Return the recipe of each student of the teachers of one seed."""
    found = {
        "alone": recipe(size, root, size.student, [_LABELS]),
        "madry, alone": recipe(size, root, size.student, [_LABELS], adversary=ADVERSARY, optimizer=ADAM),
    }
    for name in (*LOSSES, "madry"):
        taught = {"teacher": {"checkpoint": str(runs / f"teacher-{name}-{seed}")}}
        for method, losses in STUDENTS.items():
            found[f"{name} -> {method}"] = recipe(size, root, size.student, losses, **taught)
    robust = {"adversary": ADVERSARY, "optimizer": ADAM}
    ard = [{**_LABELS, "weight": 0.1, "images": "clean"}, {"name": "kd", "weight": 0.9}]
    found["madry -> ard"] = recipe(size, root, size.student, ard, **taught, **robust)
    return found


def noisy(size: Size, root: Path) -> dict[str, Table]:
    """Return the recipe of each loss at each share of wrong labels."""
    return {
        f"{name}, {rate:.0%} wrong": recipe(
            size, root, size.student, losses, data={"noise": {"kind": "symmetric", "rate": rate}}
        )
        for rate in RATES
        for name, losses in LOSSES.items()
    }


def do(job: Job) -> Table:
    """Do a run and its evaluation on one thread, if they are not done yet, and return its measures."""
    torch.set_num_threads(1)
    kept = job.place / "measures.json"
    if kept.exists():
        found: Table = json.loads(kept.read_text())
        if job.checks_anew and "failed_checks" in found:
            found["failed_checks"] = _failed_checks(job)
            kept.write_text(json.dumps(found) + "\n")
            print(f"{job.place.name}: {found['failed_checks']}", file=sys.stderr, flush=True)
        return found
    one = read_recipe(job.table, source=job.place.name)
    work = distill if one.has_teacher else train
    result = work(one, output=job.place, device=job.device).result
    measures = {"clean": result["selected"]["test"]["acc1"], "clean_last": result["last"]["test"]["acc1"]}
    measures |= _noise(job) if one.data.noise is not None else _attacks(job)
    kept.write_text(json.dumps(measures) + "\n")
    print(f"{job.place.name}: {measures['clean']:.4f}", file=sys.stderr, flush=True)
    return measures


def _evaluated(job: Job, **settings: Any) -> RunRobustness:
    return evaluate_robustness([job.place], settings=settings, device=job.device)[0]


def _failed_checks(job: Job) -> list[str]:
    found = _evaluated(job, attacks=["fgsm", "pgd-20"], eps=EPS, n_examples=job.size.attacked).to_json()
    return [check["name"] for check in found["checks"] if not check["passed"]]


def _noise(job: Job) -> Table:
    found = _evaluated(job, attacks=["none"]).label_noise
    assert found is not None
    return found.model_dump(mode="json")


def _attacks(job: Job) -> Table:
    size = job.size
    curve = _evaluated(
        job, attacks=["pgd-20"], eps=[0, *CURVE], n_examples=size.on_curve, checks=False
    ).to_json()["attacks"]["curve"]
    found = _evaluated(
        job,
        attacks=["fgsm", "pgd-20", "standard"],
        eps=EPS,
        n_examples=size.attacked,
        corruptions=["all"],
        severities=[1, 3, 5],
        calibration=True,
    ).to_json()
    report = found["corruptions"]["report"]
    return {
        "curve": {str(point["eps"]): point["worst_case_acc"] for point in curve},
        "attacks": {row["attack"]: row["robust_acc"] for row in found["attacks"]["rows"]},
        "failed_checks": [check["name"] for check in found["checks"] if not check["passed"]],
        "corruptions": {row["name"]: 1 - row["mean_error"] for row in report["rows"]},
        "corrupted": 1 - report["mean_error"],
        "ece": found["calibration"]["before"]["ece"],
    }


def seeds_of(pool: ProcessPoolExecutor, jobs: Mapping[str, Iterable[Job]]) -> dict[str, list[Table]]:
    """Return the measures of each row's seeds."""
    futures = {name: [pool.submit(do, job) for job in row] for name, row in jobs.items()}
    return {name: [future.result() for future in row] for name, row in futures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist/")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--checks-anew", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--runs", type=Path, default=Path("runs/robustness-table"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    size = FULL if arguments.full else SIZED
    runs = arguments.runs.resolve()
    images = size.images + size.images // 3
    root = mnist_subset(arguments.data / "mnist", runs / f"mnist-{images}", images=images)

    def jobs(kind: str, tables: Mapping[int, dict[str, Table]]) -> dict[str, list[Job]]:
        names = tables[SEEDS[0]]
        return {
            name: [
                Job(
                    runs / f"{kind}-{name.replace(' -> ', '-').replace(' ', '_').replace(',', '')}-{seed}",
                    tables[seed][name] | {"seed": seed},
                    size,
                    arguments.device,
                    arguments.checks_anew,
                )
                for seed in SEEDS
            ]
            for name in names
        }

    with processes(arguments.jobs) as pool:
        found = {
            kind: seeds_of(pool, jobs(kind, {seed: tables(seed) for seed in SEEDS}))
            for kind, tables in (
                ("teacher", lambda _: teachers(size, root)),
                ("student", lambda seed: students(size, root, runs, seed)),
                ("noise", lambda _: noisy(size, root)),
            )
        }
    write_report(found, arguments.out, size=size._asdict(), full=arguments.full)


if __name__ == "__main__":
    main()
