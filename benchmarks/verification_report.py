"""docs/results/verification.{md,json} from the measures of `verification_table.py`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from losses_report import paired, setting_text, spread

from kdcam.runtime.machine import describe_machine, package_versions

COMMAND = "python benchmarks/verification_table.py --data ../shared/data --jobs 2"
SOURCES = {
    "ORL": "ORL faces (AT&T Laboratories Cambridge) at 48 pixels, gray: 30 people of ten pictures for training, a "
    "tenth held out. All 450 pairs of one person among the ten others, and as many of two. The ten folds share these "
    "ten people and their hundred pictures, so the threshold of a fold is found on the same faces that it is tried on, "
    "and the sd over folds is not one over people. ± is over training seeds, on ten fixed people: it does not tell how "
    "the numbers would differ for ten others. Batch 32.",
    "LFWcrop, four folds": "LFWcrop at 64 pixels: for training the people with ten pictures or more who are in no "
    "pair, a tenth of their pictures held out. The test pairs of LFW's folds 1 to 4 alone: not to be compared with "
    "published figures, which are of ten folds and of networks trained on far more people. ± is over training seeds, "
    "on these fixed people. Batch 64.",
}

Row = Mapping[str, Any]


def table(rows: Sequence[Row]) -> list[str]:
    """Return a problem's table in Markdown."""
    columns = {
        row["method"]: {key: [one[key] for one in row["seeds"]] for key in row["seeds"][0]} for row in rows
    }
    plain = rows[0]["method"]
    head = ["loss", "setting", "accuracy %", f"paired to {plain}", "sd over folds %", "TAR at FAR 1 % (%)"]
    head += ["AUC %", "EER %"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        name, cells = row["method"], columns[row["method"]]
        texts = [f"`{name}`", setting_text(row["setting"]), spread(cells["accuracy"])]
        texts.append("" if name == plain else paired(cells["accuracy"], columns[plain]["accuracy"]))
        texts.append(f"{100 * sum(cells['accuracy_std']) / len(cells['accuracy_std']):.1f}")
        texts += [spread(cells[key]) for key in ("tar at far 0.01", "auc", "eer")]
        lines.append("| " + " | ".join(texts) + " |")
    return lines


def tried(rows: Sequence[Row]) -> list[str]:
    """Return what the search found, a line a loss."""
    return [
        f"- `{row['method']}`: "
        + "; ".join(f"{setting_text(one['setting'])}: {100 * one['auc']:.2f}" for one in row["tried"])
        for row in rows
        if row["tried"]
    ]


def write_report(found: Mapping[str, Row], folder: Path, *, seeds: Sequence[int], search_seed: int) -> None:
    """Write verification.json, and verification.md with the remarks that stand beside this file, if there are any."""
    machine, versions = describe_machine(), package_versions()
    command = COMMAND + (" --lfwcrop" if len(found) > 1 else "")
    remarks = Path(__file__).with_name("verification_remarks.md")
    text = ["# Face verification after training with six losses", "", f"Made by `{command}`.", ""]
    text += [remarks.read_text().strip(), ""] if remarks.exists() else []
    text += [
        "All rows: `kdcam:resnet8_s2` (64 features), SGD with Nesterov momentum 0.9, lr 0.1 (asoftmax: 0.05), cosine "
        "with two epochs of warm-up, random crops and flips, the weights of the last epoch; arcface and cosface with "
        "scale 16. Embeddings of picture and mirror image added and brought to length 1; the threshold of a fold is "
        f"found on the others. Mean ± standard deviation over seeds {', '.join(map(str, seeds))}. A loss's setting is "
        "the one with the largest AUC on pairs of people left out of training for this choice alone, at seed "
        f"{search_seed}; then all people for training are used. The scale, the learning rates (asoftmax's lower one, "
        "too), the epochs and the values that are searched over are kdcam's choice: set by hand before these runs, not "
        "searched, and on which people they were first tried was not kept. "
        + ", ".join(f"{key} {value}" for key, value in machine.items())
        + "; "
        + ", ".join(f"{key} {value}" for key, value in versions.items())
        + ".",
        "",
    ]
    for name, problem in found.items():
        images, pairs = (problem["rows"][0]["seeds"][0][key] for key in ("images", "pairs"))
        text += [
            f"## {name}",
            "",
            f"{SOURCES[name]} {images['train']:,} training images, {problem['epochs']} epochs; "
            f"{pairs['of_one_person']:,} pairs of one person and {pairs['of_two']:,} of two, {pairs['folds']} folds.",
            "",
            *table(problem["rows"]),
            "",
            f"AUC in per cent of the settings tried (seed {search_seed}):",
            "",
            *tried(problem["rows"]),
            "",
        ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "verification.md").write_text("\n".join(text))
    record = {"command": command, "machine": machine, "versions": versions, "seeds": seeds}
    kept = {**record, "search_seed": search_seed, "problems": dict(found)}
    (folder / "verification.json").write_text(json.dumps(kept, indent=1) + "\n")


__all__ = ["write_report"]
