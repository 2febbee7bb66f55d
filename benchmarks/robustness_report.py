"""docs/results/robustness.{md,json,png} from the measures of `robustness_table.py`."""

import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from statistics import mean
from typing import Any

from losses_report import paired, spread
from matplotlib.figure import Figure

from kdcam.runtime.machine import describe_machine, package_versions

COMMAND = "python benchmarks/robustness_table.py --data ../shared/data"
PROTOCOL = (
    "MNIST, {images:,} training images and a third as many for validation (on which the epoch is selected), {epochs} "
    "epochs, batch 64, no augmentation; the teachers are {teacher}, the students "
    "{student}. SGD with momentum, lr 0.1, cosine; adversarial training AdamW 0.002, pgd-5 at eps 0.15. Clean: "
    "all 10,000 test images. Attacks (L-inf, pixels in [0, 1]) at eps 0.1 and corruptions (severities 1, 3, 5): the "
    "first {attacked:,} test images; curve: pgd-20, the first {on_curve:,}. `standard`: apgd-ce, apgd-t and square in "
    "sequence, the worst case of each image. Mean ± standard deviation over seeds 0, 1, 2; the students of a seed are "
    "taught by that seed's teacher. Constants of the losses: those of docs/results/losses.md's MNIST rows."
)

Found = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
Column = tuple[str, Callable[[Mapping[str, Any]], float]]


def _attack(name: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda one: float(one["attacks"][name])


UNDER_ATTACK: tuple[Column, ...] = (
    ("clean %", lambda one: float(one["clean"])),
    ("fgsm %", _attack("fgsm")),
    ("pgd-20 %", _attack("pgd-20")),
    ("standard %", _attack("standard")),
    ("corrupted %", lambda one: float(one["corrupted"])),
    ("ECE %", lambda one: float(one["ece"])),
)
WITH_NOISE: tuple[Column, ...] = (
    ("clean test, selected %", lambda one: float(one["clean"])),
    ("clean test, last %", lambda one: float(one["clean_last"])),
    ("wrong labels memorised %", lambda one: float(one["memorisation"]["memorised"])),
    ("true label recovered %", lambda one: float(one["memorisation"]["recovered"])),
    ("AUROC of the loss %", lambda one: float(one["memorisation"]["wrong_label_auroc"])),
)


def table(rows: Mapping[str, Sequence[Mapping[str, Any]]], columns: Sequence[Column], base: str) -> list[str]:
    """Return a table in Markdown, with the paired difference of a base row's third column."""
    title, score = columns[3] if columns is UNDER_ATTACK else columns[0]
    head = ["row", *(name for name, _ in columns), f"{title.removesuffix(' %')}, paired to {base}"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, seeds in rows.items():
        texts = [spread([of(one) for one in seeds], digits=1) for _, of in columns]
        texts.append(
            "" if name == base else paired(*([score(one) for one in row] for row in (seeds, rows[base])))
        )
        failed = sorted({check for one in seeds for check in one.get("failed_checks", ())})
        lines.append(
            "| " + " | ".join([name + (f" (checks failed: {', '.join(failed)})" if failed else ""), *texts])
        )
        lines[-1] += " |"
    return lines


def picture(found: Found) -> bytes:
    """Return accuracy against eps of teachers and students, and against the share of wrong labels."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    panels = figure.subplots(1, 3)
    for panel, kind in zip(panels, ("teacher", "student"), strict=False):
        for name, seeds in found[kind].items():
            amounts = sorted(seeds[0]["curve"], key=float)
            scores = [100 * mean(one["curve"][amount] for one in seeds) for amount in amounts]
            panel.plot([float(amount) for amount in amounts], scores, label=name, marker=".")
        panel.set(xlabel="eps (L-inf)", ylabel="accuracy under pgd-20, %", title=f"{kind}s")
        panel.legend(fontsize=6)
    _noise_panel(panels[2], found)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _noise_panel(panel: Any, found: Found) -> None:
    names = dict.fromkeys(row.partition(",")[0] for row in found["noise"])
    for name in names:
        rows = {row: seeds for row, seeds in found["noise"].items() if row.startswith(f"{name},")}
        rates = [100 * mean(one["realised_rate"] for one in seeds) for seeds in rows.values()]
        panel.plot(
            rates,
            [100 * mean(one["clean"] for one in seeds) for seeds in rows.values()],
            label=name,
            marker=".",
        )
    panel.set(xlabel="wrong training labels, %", ylabel="clean test accuracy, %", title="label noise")
    panel.legend(fontsize=6)


def write_report(found: Found, folder: Path, *, size: Mapping[str, Any], full: bool) -> None:
    """Write robustness.json, .png and .md, with the remarks that stand beside this file at its head."""
    machine, versions = describe_machine(), package_versions()
    command = f"{COMMAND} --full" if full else COMMAND
    text = ["# Robustness of losses and of their students", "", f"Made by `{command}`.", ""]
    if not full:
        text += [Path(__file__).with_name("robustness_remarks.md").read_text().strip(), ""]
    facts = ", ".join(f"{key} {value}" for key, value in (machine | versions).items())
    text += [
        f"{PROTOCOL.format(**size)} {facts}.",
        "",
        "![Accuracy against eps and label noise](robustness.png)",
        "",
    ]
    text += ["## Teachers", "", *table(found["teacher"], UNDER_ATTACK, "cross_entropy"), ""]
    text += ["## Students", "", *table(found["student"], UNDER_ATTACK, "alone"), ""]
    text += ["## Wrong training labels (students' network, symmetric)", ""]
    text += [*table(found["noise"], WITH_NOISE, next(iter(found["noise"]))), ""]
    text += ["## Each corruption (teachers)", "", *_corruptions(found["teacher"]), ""]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "robustness.md").write_text("\n".join(text))
    record = {"command": command, "machine": machine, "versions": versions, "size": size, "rows": found}
    (folder / "robustness.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "robustness.png").write_bytes(picture(found))


def _corruptions(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    names = list(next(iter(rows.values()))[0]["corruptions"])
    lines = ["| accuracy % | " + " | ".join(rows) + " |", "|" + "---|" * (len(rows) + 1)]
    for name in names:
        cells = [spread([one["corruptions"][name] for one in seeds], digits=1) for seeds in rows.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


__all__ = ["write_report"]
