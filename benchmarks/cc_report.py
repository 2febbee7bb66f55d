"""docs/results/cc-table.{md,json} from the measures of `cc_table.py`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from grid_runs import Table
from losses_report import differences, paired, setting_text, spread, tried
from many_comparisons import remark

from kdcam.runtime.machine import describe_machine, package_versions

COMMAND = "python benchmarks/cc_table.py --data ../shared/data"
SIZED = (
    "Sized for two CPU cores: the shipped recipes (`papers/channel-correlation/*-mnist-r18`) with `kdcam:resnet8_s2` "
    "(64 channels in the last map) in ResNet18's place, 28 pixels, batch 64, SGD with momentum 0.9, lr 0.1, weight "
    "decay 5e-4, divided by 10 at half and three quarters of 8 epochs (30 with 1,000 images), no augmentation. A third "
    "as many images again as for training are the validation part, always with right labels, on which constants and "
    "epoch are chosen; the test part (all 10,000 images) is read once a run. Constants: the setting with the best "
    "validation score (ties: the smaller NLL) at seed {search_seed}, which the tables do not use."
)
FULL = "The shipped recipes as they are: nothing was chosen, the last epoch is scored."


def table(rows: Sequence[Table], published: Mapping[str, float]) -> list[str]:
    """Return a problem's table in Markdown; the loss on attention is compared with the block alone as well."""
    columns = {
        row["method"]: {key: [one[key] for one in row["seeds"]] for key in row["seeds"][0]} for row in rows
    }
    plain = rows[0]["method"]
    head = ["loss", "setting", "test accuracy %", f"paired to {plain}", "last epoch %", "test NLL"]
    head += ["effective rank", *(["paper, ResNet18 or VGG16 %"] if published else [])]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        name, cells = row["method"], columns[row["method"]]
        versus = "" if name == plain else paired(cells["test_score"], columns[plain]["test_score"])
        if name == "channel_correlation":
            block = columns["attention block alone"]["test_score"]
            versus += f"; to the block alone {paired(cells['test_score'], block)}"
        texts = [name if " " in name else f"`{name}`", setting_text(row["setting"])]
        texts += [spread(cells["test_score"], digits=2), versus, spread(cells["test_score_last"], digits=2)]
        texts += [spread(cells["test_nll"], scale=1, digits=3), spread(cells["effective_rank"], scale=1)]
        texts += [f"{published[name]:.2f}" if name in published else "-"] if published else []
        lines.append("| " + " | ".join(texts) + " |")
    return lines


def write_report(
    found: Mapping[str, Table], folder: Path, *, seeds: Sequence[int], search_seed: int, full: bool
) -> None:
    """Write cc-table.json, and cc-table.md with the remarks that stand beside this file at its head."""
    machine, versions = describe_machine(), package_versions()
    command = f"{COMMAND} --full --device cuda" if full else COMMAND
    text = ["# The CC-Loss paper's table, MNIST column", "", f"Made by `{command}`.", ""]
    if not full:
        text += [
            Path(__file__).with_name("cc_remarks.md").read_text().strip(),
            "",
            remark(differences(found)),
            "",
        ]
    facts = ", ".join(f"{key} {value}" for key, value in (machine | versions).items())
    protocol = FULL if full else SIZED.format(search_seed=search_seed)
    text += [f"{protocol} Mean ± standard deviation over seeds {', '.join(map(str, seeds))}. {facts}.", ""]
    for name, problem in found.items():
        text += [f"## {name}", "", *table(problem["rows"], problem["published"]), ""]
        if searched := tried(problem["rows"]):
            text += [f"Validation scores of the settings tried (seed {search_seed}):", "", *searched, ""]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cc-table.md").write_text("\n".join(text))
    record = {
        "command": command,
        "machine": machine,
        "versions": versions,
        "seeds": seeds,
        "search_seed": search_seed,
    }
    (folder / "cc-table.json").write_text(json.dumps({**record, "problems": found}, indent=1) + "\n")


__all__ = ["write_report"]
