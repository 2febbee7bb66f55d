"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

RecipeName = Annotated[str, typer.Argument(help="A TOML file, or a shipped recipe (`kdcam recipes list`).")]
RunPath = Annotated[str, typer.Argument(help="A run folder, as `kdcam train` made it.")]
RunPaths = Annotated[list[str], typer.Argument(help="Run folders, as `kdcam train` made them.")]
_OTHERS = ".safetensors files beside their config.json, and names of networks with published weights"
Networks = Annotated[list[str], typer.Argument(help=f"Run folders, {_OTHERS}.")]
RunsElseNetworks = Annotated[
    list[str],
    typer.Argument(help=f"Run folders, as `kdcam train` made them; with --root also {_OTHERS}."),
]
Pictures = Annotated[bool, typer.Option("--pictures/--no-pictures", help="Draw into each run's figures/.")]

Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key: --set optimizer.lr=0.01 --set loss.cam.weight=1 (repeatable).",
    ),
]
DataSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="data.KEY=VALUE",
        help="Where the run's data lies now: --set data.root=DIR (also data.labels, data.names, data.workers).",
    ),
]
Rest = Annotated[
    bool,
    typer.Option("--rest", help="Where pictures of the run are gone or changed, take those that are left."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="The run folder; runs/<recipe>-<seed> unless given."),
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="The seed; the recipe's unless given.")]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda[:i]|mps", help="Where to compute.")]
Resume = Annotated[
    Literal["auto", "never"],
    typer.Option("--resume", help="auto: go on with an unfinished run; never: start it over."),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check recipe, data and networks, decode some pictures, print the resolved recipe; write nothing.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no messages, only warnings and errors.")
]
Weights = Annotated[
    Literal["selected", "last"],
    typer.Option(
        "--weights",
        help="The selected weights or those of the last epoch; a file of results is of those asked last.",
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, metavar="N", help="Images at a time.")]


def given(**flags: Any) -> dict[str, Any]:
    """Return the flags that the user gave, by name: the defaults live in the library."""
    return {name: value for name, value in flags.items() if value is not None}


__all__ = [
    "BatchSize",
    "DataSets",
    "Device",
    "DryRun",
    "Json",
    "Networks",
    "Output",
    "Pictures",
    "Quiet",
    "RecipeName",
    "Rest",
    "Resume",
    "RunPath",
    "RunPaths",
    "RunsElseNetworks",
    "Seed",
    "Sets",
    "Weights",
    "given",
]
