"""`kdcam quickstart`: the whole of kdcam once, in minutes, on data that comes with an installed package."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from kdcam.blocks.document import Table
from kdcam.runtime.memory import keep_freed_memory

from . import render
from .options import Device, Json, Quiet


def quickstart(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the runs and pictures go.")
    ] = Path("runs/quickstart"),
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a teacher with CAM-loss, distil a student, and compare both: accuracy, pointing, robustness, pictures."""
    from kdcam.evaluation.robustness.attack_report import RobustnessReport  # slow: torch
    from kdcam.quickstart import run_quickstart  # slow: torch

    keep_freed_memory()
    with render.watching(quiet=quiet) as progress:
        found = run_quickstart(output, device=device, command=("kdcam", *sys.argv[1:]), progress=progress)
    rows = []
    for row in found.rows:
        report = row.robustness.attacks
        assert isinstance(report, RobustnessReport)  # its scenes have one label each
        rows.append(
            {
                "network": row.name,
                "parameters": row.run.result["parameters"],
                "test_acc": row.run.result["selected"]["test"]["acc1"],
                "pointing_cam": row.pointing.label_cam,
                "pointing_caam": row.pointing.caam,
                **{attack.attack: attack.robust_acc for attack in report.rows},
            }
        )
    if as_json:
        render.show_json({"rows": rows, "picture": str(found.picture), "seconds": found.seconds})
        return
    columns = list(rows[0])
    render.show_table(
        Table(
            columns,
            [
                [str(row["network"]), f"{row['parameters']:,}", *(f"{row[name]:.1%}" for name in columns[2:])]
                for row in rows
            ],
            title="digit scenes, test part",
        )
    )
    render.show_text(f"CAM pictures (image; teacher's CAM and CAAM; student's CAM and CAAM): {found.picture}")
    spent = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in found.seconds.items())
    render.show_text(f"time: {spent}")
    student = found.rows[-1].run.path
    render.show_text(
        f"next: kdcam evaluate {student}; kdcam evaluate-robustness {found.rows[0].run.path} {student}; "
        "kdcam recipes new YOUR_PHOTOS -o photos.toml"
    )


__all__ = ["quickstart"]
