"""docs/results/losses.{md,json} from the measures of `losses_table.py`."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from many_comparisons import remark

from kdcam.runtime.machine import describe_machine, package_versions

COMMAND = "python benchmarks/losses_table.py --data ../shared/data --unpacked FOLDER --jobs 2"
SOURCES = {
    "digit scenes": "4,500 training, 500 validation, 2,000 test scenes of 48 pixels, 10 classes, boxes known.",
    "MNIST, 6,000 images": "6,000 training and 2,000 validation images, all 10,000 test images, 10 classes.",
    "13 mammals": "Thirteen mammals of Tiny-ImageNet at 32 pixels (dogs, cats, hoofed animals, apes ...), 371 training "
    "images a class; the problem of HNC (similar classes) and of mutual_channel (fine classes, from scratch).",
    "digit scenes of several digits": "As digit scenes, with one to three whole digits of different "
    "classes in each; batch 32, AdamW, lr 0.005, weight decay 0.05.",
    "tiny-imagenet32-100": "100 classes of Tiny-ImageNet at 32 pixels, 450 training images a class, the authors' "
    "validation images as test part; the problem of channel_correlation (many classes).",
}

Row = Mapping[str, Any]


def spread(values: Sequence[float], *, scale: float = 100, digits: int = 1) -> str:
    """Return mean and standard deviation."""
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    return f"{scale * mean:.{digits}f} ± {scale * deviation:.{digits}f}"


def paired(values: Sequence[float], base: Sequence[float]) -> str:
    """Return the differences in points, seed by seed, and their mean."""
    differences = [100 * (a - b) for a, b in zip(values, base, strict=True)]
    return "/".join(f"{one:+.1f}" for one in differences) + f" (mean {statistics.mean(differences):+.2f})"


def setting_text(setting: Sequence[Row]) -> str:
    """Return the keys of the added term."""
    return ", ".join(f"{key} {value}" for term in setting for key, value in term.items() if key != "name")


def table(rows: Sequence[Row]) -> list[str]:
    """Return a problem's table in Markdown; differences of the loss on attention are to the block alone as well."""
    columns = {
        row["method"]: {key: [one[key] for one in row["seeds"]] for key in row["seeds"][0]} for row in rows
    }
    plain = rows[0]["method"]
    base, boxes = columns[plain]["test_score"], columns[plain]["pointing_cam"][0] is not None
    measure = "mAP" if columns[plain]["measure"][0] == "mean average precision" else "accuracy"
    head = [
        "loss",
        "setting",
        f"test {measure} %",
        f"paired to {plain}",
        "last epoch %",
        "test NLL",
        "effective rank",
    ]
    head += ["pointing CAM %", "pointing CAAM %"] if boxes else []
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        name, cells = row["method"], columns[row["method"]]
        versus = "" if name == plain else paired(cells["test_score"], base)
        if name == "channel_correlation":
            block = columns["attention block alone"]["test_score"]
            versus += f"; to the block alone {paired(cells['test_score'], block)}"
        texts = [name if name == "attention block alone" else f"`{name}`", setting_text(row["setting"])]
        texts += [spread(cells["test_score"]), versus, spread(cells["test_score_last"])]
        texts += [spread(cells["test_nll"], scale=1, digits=3), spread(cells["effective_rank"], scale=1)]
        texts += [spread(cells[key]) for key in ("pointing_cam", "pointing_caam") if boxes]
        lines.append("| " + " | ".join(texts) + " |")
    return lines


def differences(problems: Mapping[str, Row]) -> dict[str, list[float]]:
    """Return the differences in the test score that tables of `table` hold, by problem and loss."""
    found: dict[str, list[float]] = {}
    for problem, content in problems.items():
        scores = {row["method"]: [one["test_score"] for one in row["seeds"]] for row in content["rows"]}
        plain = next(iter(scores))
        pairs = [(method, plain) for method in scores if method != plain]
        if "channel_correlation" in scores:
            pairs.append(("channel_correlation", "attention block alone"))
        for method, base in pairs:
            name = f"{problem}, {method} to {base}"
            found[name] = [a - b for a, b in zip(scores[method], scores[base], strict=True)]
    return found


def tried(rows: Sequence[Row]) -> list[str]:
    """Return what the search found, a line a loss."""
    lines = []
    for row in rows:
        if row["tried"]:
            found = "; ".join(
                f"{setting_text(one['setting'])}: {100 * one['validation_score']:.1f}" for one in row["tried"]
            )
            lines.append(f"- `{row['method']}`: {found}")
    return lines


def write_report(found: Mapping[str, Row], folder: Path, *, seeds: Sequence[int], search_seed: int) -> None:
    """Write losses.json, and losses.md with the remarks that stand beside this file at its head."""
    machine, versions = describe_machine(), package_versions()
    remarks = Path(__file__).with_name("losses_remarks.md").read_text().strip()
    text = ["# The losses of the five papers against plain training", "", f"Made by `{COMMAND}`.", ""]
    text += [remarks, "", remark(differences(found)), ""]
    text += [
        "All rows, where nothing else is said: `kdcam:resnet8_s2` (64 channels in the last map), batch 64, SGD with "
        "Nesterov momentum 0.9, lr 0.1, cosine with one epoch of warm-up, weight decay 5e-4 (not on norms and biases), "
        f"random crops (and flips for photos); mean ± standard deviation over seeds {', '.join(map(str, seeds))}. Each "
        "loss is added to the plain one of the first row; its setting is the one with the best validation score (ties: "
        f"the smaller NLL) at seed {search_seed}, which the tables do not use. The epoch is selected on validation, "
        "the test part is read once. Pointing: the map's highest place lies in the object's box. Effective rank: of "
        "the test embeddings, up to 64. "
        + ", ".join(f"{key} {value}" for key, value in machine.items())
        + "; "
        + ", ".join(f"{key} {value}" for key, value in versions.items())
        + ".",
        "",
    ]
    for name, problem in found.items():
        text += [
            f"## {name}",
            "",
            f"{SOURCES[name]} {problem['epochs']} epochs.",
            "",
            *table(problem["rows"]),
            "",
        ]
        text += [
            f"Validation scores of the settings tried (seed {search_seed}):",
            "",
            *tried(problem["rows"]),
            "",
        ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "losses.md").write_text("\n".join(text))
    kept = {name: {"epochs": problem["epochs"], "rows": problem["rows"]} for name, problem in found.items()}
    record = {
        "command": COMMAND,
        "machine": machine,
        "versions": versions,
        "seeds": seeds,
        "search_seed": search_seed,
    }
    (folder / "losses.json").write_text(json.dumps({**record, "problems": kept}, indent=1) + "\n")
