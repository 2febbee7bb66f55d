"""docs/results/distillation.{md,json,png} from the comparison and the map-matching study."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcam.comparison.table.output_folder import COMPARISON_FILE, CURVES_FILE, MARKDOWN_FILE

COMMAND = "python benchmarks/distillation_table.py --cifar FOLDER --jobs 2"
STUDY_COMMAND = "python benchmarks/map_matching.py --jobs 2 --out docs/results/map-matching.json"
SIZED = (
    "Sized for two CPU cores: resnet20 -> resnet8, 32 pixels, 5,000 training, 1,000 validation and 5,000 test images "
    "of CIFAR-10 (the first 600 and 500 of each class), 20 epochs (the teacher 40), batch 64, SGD with momentum 0.9, "
    "lr 0.05, weight decay 5e-4, cosine, crop and flip; the teacher's outputs over 4 views of each image come from a "
    "cache. Weights are the methods' published ones; those of caam_cam beside kd and of cam_kd were chosen in the "
    "study below, on validation, with another seed."
)
STUDY = (
    "One student (seed {seed}, {epochs} epochs, the same images and teacher) for each way of matching maps. The "
    "numbers after a name are weights; kd is 0.1 cross-entropy + 0.9 kd unless told. Accuracies and agreement with the "
    "teacher's top class in per cent, similarity: correlation of student's and teacher's CAM of the label on the test "
    "images."
)


def write_report(comparison: Path, study: Path, out: Path, *, replaced: Mapping[str, str]) -> None:
    """Write the report into ``out``; texts of paths are ``replaced``, so that no machine's folders stand in it.

    The remarks stand in distillation_remarks.md beside this file.
    """
    table, record = (
        _replaced((comparison / name).read_text(), replaced) for name in (MARKDOWN_FILE, COMPARISON_FILE)
    )
    text = ["# Distillation methods under one teacher", "", f"Made by `{COMMAND}`.", ""]
    text += [Path(__file__).with_name("distillation_remarks.md").read_text().strip(), "", SIZED, ""]
    text += ["## Methods", "", table.replace("\n## ", "\n### ").strip(), ""]
    text += ["![Validation by epoch, and epochs to reach a score](distillation.png)", ""]
    if study.exists():
        text += _study(json.loads(study.read_text()))
    out.mkdir(parents=True, exist_ok=True)
    (out / "distillation.md").write_text("\n".join(text))
    (out / "distillation.json").write_text(record)
    (out / "distillation.png").write_bytes((comparison / CURVES_FILE).read_bytes())


def _replaced(text: str, replaced: Mapping[str, str]) -> str:
    for found, meant in replaced.items():
        text = text.replace(found, meant)
    return text


def _study(study: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Ways to match maps",
        "",
        STUDY.format(**study) + f" Made by `{STUDY_COMMAND}`.",
        "",
        "| loss | validation % | test % | agreement % | CAM similarity | CAAM-CAM similarity |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, scores in study["variants"].items():
        test = scores["test"]
        lines.append(
            f"| {name} | {scores['validation']['acc1']:.1%} | {test['acc1']:.1%} | {test['agreement']:.1%} "
            f"| {test['cam_similarity']:.3f} | {test['caam_cam_similarity']:.3f} |".replace("%", "")
        )
    return [*lines, ""]


__all__ = ["write_report"]
