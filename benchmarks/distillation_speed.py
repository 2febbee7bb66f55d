"""How fast distillation runs on a CPU: kdcam beside plain PyTorch, resnet56 -> resnet20, whole loop, in one run.

    python benchmarks/distillation_speed.py --out docs/results/distillation-speed.json

A step is a batch of 64 images of 32 pixels: reading, augmenting (crop of padding 4, flip), teacher, student, update.

- plain: as HobbitLong/RepDistiller writes it. A PIL image made of an array for each item, torchvision's transforms,
  a DataLoader (with its 8 workers, 2 and none; the fastest counts), live teacher under no_grad, contiguous memory.
- live, cached, alone: kdcam's own engine with the teacher, with its cached views, and with cross-entropy only.
  "compiled" is the recipe's compile = true.

Each job has a process of its own. They go in turn, some steps of each at a time, so that a change of the machine's
speed meets all alike; a ratio is the median over the rounds, with a 95 % bootstrap interval. Teacher and student have
random weights. Images are random bytes unless --data names a folder with a folder of pictures a class. Run it on an
idle machine.
"""

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from distillation_jobs import (
    ALONE,
    BATCH,
    CACHED,
    LIVE,
    PLAIN,
    SIZE,
    STUDENT,
    TEACHER,
    VIEWS,
    Job,
    Setting,
    Table,
    make_teacher,
    read_parts,
    recipes,
    start,
)
from interleaved import facts, timed

from kdcam.data.batches.resident import ResidentImages

WORKERS = (8, 2, 0)  # RepDistiller's number, this machine's cores, and none


class Goal(NamedTuple):
    """A ratio of two jobs' times, and what it should be."""

    above: str
    below: str
    kind: Literal["at least", "at most"]
    bound: float


GOALS = (
    Goal(CACHED, ALONE, "at most", 1.10),
    Goal(PLAIN, CACHED, "at least", 2.5),
    Goal(PLAIN, LIVE, "at least", 1.5),
)


def serve(name: str, setting: Setting, pipe: Connection) -> None:
    """Do a turn whenever the parent asks for one, until it hangs up."""
    job = start(name, setting)
    job()
    with suppress(EOFError):
        while True:
            pipe.send(None)
            pipe.recv()
            job()


@contextmanager
def own_process(name: str, setting: Setting) -> Iterator[Job]:
    """Give turns of a job that has a process of its own: its memory, threads and compiler are nobody else's."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=serve, args=(name, setting, far))
    process.start()
    far.close()
    near.recv()

    def turn() -> None:
        near.send(None)
        near.recv()

    try:
        yield turn
    finally:
        near.close()
        process.join()


def ratio(above: np.ndarray, below: np.ndarray, draws: int = 5000) -> Table:
    """Return the median over rounds of a ratio of times, with its 95 % bootstrap interval."""
    each = above / below
    chosen = np.random.default_rng(0).integers(len(each), size=(draws, len(each)))
    low, high = np.percentile(np.median(each[chosen], axis=1), [2.5, 97.5]).tolist()
    return {"ratio": round(float(np.median(each)), 3), "interval_95": [round(low, 3), round(high, 3)]}


def judged(goal: Goal, above: np.ndarray, below: np.ndarray) -> Table:
    """Return a ratio beside its goal."""
    found = ratio(above, below)
    reached = found["ratio"] >= goal.bound if goal.kind == "at least" else found["ratio"] <= goal.bound
    return found | {"goal": f"{goal.kind} {goal.bound}", "reached": reached}


def ratios(times: Mapping[str, np.ndarray]) -> dict[str, Table]:
    """Return each goal's ratio, eager and compiled, of those jobs that were run."""
    plain = [name for name in times if name.startswith(PLAIN)]
    fastest = min(plain, key=lambda name: float(np.median(times[name])), default="")
    found = {}
    for goal in GOALS:
        for way in ("", " compiled"):
            above = fastest if goal.above == PLAIN else goal.above + way
            below = goal.below + way
            if above in times and below in times:
                found[f"{above} / {below}"] = judged(goal, times[above], times[below])
    return found


def measure(setting: Setting, names: list[str], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds of each turn of each job."""
    with ExitStack() as stack:
        jobs = {name: stack.enter_context(own_process(name, setting)) for name in names}
        return timed(jobs, steps=rounds)


def prepared(arguments: argparse.Namespace, folder: Path) -> Setting:
    """Write what the jobs share and return their setting."""
    data: Table = {"name": "cifar100"}  # a name for the random images; it is not read
    if arguments.data:
        data = {"name": "image-folder", "root": str(arguments.data), "image_size": SIZE, "test": 0.0}
    data |= {"augment": ["crop", "flip"], "validation": 0.0}
    parts = read_parts(data, arguments.images)
    make_teacher(parts, folder / "teacher")
    assert isinstance(parts.train.images, ResidentImages)
    np.save(folder / "pixels.npy", parts.train.images.pixels.numpy())
    np.save(folder / "labels.npy", parts.train.targets.numpy())
    return Setting(folder, data, parts.label_names, arguments.steps, arguments.threads)


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the result as two tables."""
    lines = [
        "# Speed of distillation",
        "",
        f"{result['teacher']} -> {result['student']}, {result['images']:,} {result['data']} of {SIZE} pixels, batches "
        f"of {BATCH}, whole loop, {result['threads']} threads on {result['machine']['processor']}; medians over "
        f"{result['rounds']} turns of {result['steps']} steps in one run, a process a job. Made by "
        f"`{result['command']}`; what each job does is told there.",
        "",
        "| job | ms a step | images/s |",
        "|---|---|---|",
    ]
    for name, row in result["jobs"].items():
        lines.append(f"| {name} | {row['milliseconds_a_step']:.1f} | {row['images_per_second']:.0f} |")
    lines += ["", "| times | ratio [95 %] | goal | reached |", "|---|---|---|---|"]
    for name, row in result["ratios"].items():
        low, high = row["interval_95"]
        reached = "yes" if row["reached"] else "no"
        lines.append(f"| {name} | {row['ratio']:.2f} [{low:.2f}, {high:.2f}] | {row['goal']} | {reached} |")
    return "\n".join(lines) + "\n"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*(f"{PLAIN} {workers} workers" for workers in WORKERS), *recipes({}, "", Path())]
    parser.add_argument("--data", type=Path, help="folder with a folder of pictures a class")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=25, help="of a job's turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jobs", nargs="+", choices=every, default=every, metavar="JOB", help="only these")
    parser.add_argument("--out", type=Path, help="JSON; the tables go beside it, as .md")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    with tempfile.TemporaryDirectory() as name:
        setting = prepared(arguments, Path(name))
        times = measure(setting, arguments.jobs, arguments.rounds)
    seconds = {name: float(np.median(values)) / arguments.steps for name, values in times.items()}
    result = {
        "teacher": TEACHER,
        "student": STUDENT,
        "batch_size": BATCH,
        "images": arguments.images,
        "data": "pictures" if arguments.data else "random images",
        "views": VIEWS,
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        **facts(),
        "threads": arguments.threads,
        "command": "python benchmarks/distillation_speed.py" + (" --data DIR" if arguments.data else ""),
        "jobs": {
            name: {
                "milliseconds_a_step": round(1e3 * a_step, 2),
                "images_per_second": round(BATCH / a_step, 1),
            }
            for name, a_step in seconds.items()
        },
        "ratios": ratios(times),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")
        arguments.out.with_suffix(".md").write_text(to_markdown(result))


if __name__ == "__main__":
    main()
