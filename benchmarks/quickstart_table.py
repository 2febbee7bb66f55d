"""The README's table: a student on digit scenes alone, + kd, + caam_cam, + kd + caam_cam.

    python benchmarks/quickstart_table.py --runs runs/quickstart-table --out docs/results

The weights of caam_cam are chosen on the validation part with one seed that the table does not use (a grid of
three alone, of three beside kd); kd's are those of the standard protocol. Then each method is run with three
fresh seeds, each under a teacher of the same seed. The epoch is selected on validation, the test part is read
once a run. Runs that are finished are not done again, so that the script may be stopped and started.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from kdcam.api import distill, train
from kdcam.cam.map_pictures import save_png
from kdcam.evaluation.localization.localization_measurement import pointing_scores
from kdcam.quickstart import cam_picture
from kdcam.recipe.recipe_files import read_toml
from kdcam.recipe.train_recipe import read_recipe
from kdcam.runs.open_run import load_run
from kdcam.runtime.machine import describe_machine, package_versions
from kdcam.runtime.progress import EpochRecord, Silent
from kdcam.training.training_run import RunResult

SEARCH_SEED, SEEDS = 100, (0, 1, 2)
CROSS_ENTROPY = {"name": "cross_entropy", "weight": 1.0}
KD = [{"name": "cross_entropy", "weight": 0.1}, {"name": "kd", "weight": 0.9, "temperature": 4.0}]
ALONE_GRID, BESIDE_KD_GRID = (3.0, 10.0, 30.0), (1.0, 3.0, 10.0)


class Lines(Silent):
    def message(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def epoch(self, record: EpochRecord) -> None:
        accuracy = record.validation["acc1"]
        print(
            f"  epoch {record.epoch}: validation {accuracy:.3f}, {record.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )


def caam_cam(weight: float) -> dict[str, object]:
    return {"name": "caam_cam", "weight": weight}


def teacher(runs: Path, seed: int) -> RunResult:
    table = read_toml("quickstart/teacher") | {"seed": seed}
    return train(read_recipe(table, source="teacher"), output=runs / f"teacher-{seed}", progress=Lines())


def student(runs: Path, name: str, losses: list[dict[str, object]], seed: int) -> RunResult:
    table = read_toml("quickstart/student") | {"seed": seed, "loss": losses}
    table["teacher"] = {"checkpoint": str(teacher(runs, seed).path)}
    place = runs / f"{name}-{seed}"
    if not any(loss["name"] in ("kd", "caam_cam") for loss in losses):
        del table["teacher"]
        return train(read_recipe(table, source=name), output=place, progress=Lines())
    return distill(read_recipe(table, source=name), output=place, progress=Lines())


def search(
    runs: Path, base: list[dict[str, object]], grid: tuple[float, ...], label: str
) -> tuple[float, dict[str, float]]:
    """Return the weight of caam_cam with the best validation accuracy, and all accuracies."""
    found = {
        weight: student(runs, f"search-{label}-{weight:g}", [*base, caam_cam(weight)], SEARCH_SEED).result[
            "selected"
        ]["validation"]["acc1"]
        for weight in grid
    }
    return max(found, key=lambda weight: found[weight]), {
        f"{weight:g}": round(acc, 4) for weight, acc in found.items()
    }


def measure(run: RunResult) -> dict[str, float]:
    loaded = load_run(run.path)
    test = loaded.part("test")
    assert test.boxes is not None
    pointing = pointing_scores(loaded.classifier, loaded.batches(test), test.boxes)
    scores = run.result["selected"]["test"]
    return {
        "test_acc": scores["acc1"],
        "test_acc_last": run.result["last"]["test"]["acc1"],
        "pointing_cam": pointing.label_cam,
        "pointing_caam": pointing.caam,
    }


def spread(values: list[float]) -> str:
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def paired(values: list[float], base: list[float]) -> str:
    return "/".join(f"{100 * (a - b):+.1f}" for a, b in zip(values, base, strict=True))


def markdown(found: dict[str, list[dict[str, float]]], machine: str, versions: str, chosen: str) -> str:
    columns = ("test_acc", "test_acc_last", "pointing_cam", "pointing_caam")
    base = [row["test_acc"] for row in found["student alone"]]
    lines = [
        "| network | test accuracy % | paired to student alone | last epoch % | pointing CAM % | pointing CAAM % |",
        "|---|---|---|---|---|---|",
    ]
    for name, rows in found.items():
        cells = {column: [row[column] for row in rows] for column in columns}
        versus = "" if name.startswith("teacher") else paired(cells["test_acc"], base)
        numbers = [spread(cells[column]) for column in columns]
        lines.append(f"| {name} | {numbers[0]} | {versus} | {numbers[1]} | {numbers[2]} | {numbers[3]} |")
    return "\n".join(lines) + (
        "\n\nDigit scenes (48 px, 4,500 training, 500 validation, 2,000 test scenes), 12 epochs, "
        f"seeds {', '.join(map(str, SEEDS))}; mean ± standard "
        "deviation over seeds. The epoch is selected on validation; the test part is read once. "
        f"{chosen} Pointing: the highest place of the map lies in the digit's box. {machine}; {versions}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/quickstart-table"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    runs = arguments.runs
    alone, alone_found = search(runs, [CROSS_ENTROPY], ALONE_GRID, "alone")
    beside, beside_found = search(runs, KD, BESIDE_KD_GRID, "kd")
    methods = {
        "student alone": [CROSS_ENTROPY],
        "+ kd": KD,
        "+ caam_cam": [CROSS_ENTROPY, caam_cam(alone)],
        "+ kd + caam_cam": [*KD, caam_cam(beside)],
    }
    found = {
        name: [
            measure(student(runs, name.replace(" ", "").replace("+", "_"), losses, seed)) for seed in SEEDS
        ]
        for name, losses in methods.items()
    }
    found["teacher (cross_entropy + cam)"] = [measure(teacher(runs, seed)) for seed in SEEDS]
    chosen = (
        f"Weights of caam_cam chosen on the validation part with seed {SEARCH_SEED}: {alone:g} alone "
        f"(of {alone_found}), {beside:g} beside kd (of {beside_found})."
    )
    machine, versions = describe_machine(), package_versions()
    text = markdown(
        found,
        ", ".join(f"{key} {value}" for key, value in machine.items()),
        ", ".join(f"{key} {value}" for key, value in versions.items()),
        chosen,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    head = "# The quickstart's losses, three seeds\n\nMade by `python benchmarks/quickstart_table.py`.\n\n"
    (arguments.out / "quickstart.md").write_text(head + text)
    record = {
        "command": "python benchmarks/quickstart_table.py",
        "machine": machine,
        "versions": versions,
        "seeds": SEEDS,
    }
    record |= {"search_alone": alone_found, "search_beside_kd": beside_found, "rows": found}
    (arguments.out / "quickstart.json").write_text(json.dumps(record, indent=2) + "\n")
    pictured = [load_run(runs / f"{name}-0") for name in ("teacher", "studentalone", "_kd_caam_cam")]
    save_png(cam_picture(pictured), arguments.out / "quickstart-cams.png")
    print(text)


if __name__ == "__main__":
    main()
