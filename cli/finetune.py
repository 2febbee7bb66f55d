"""`kdcam finetune`."""

from typing import Annotated

import typer

from .options import Device, DryRun, Json, Output, Quiet, RecipeName, Resume, Seed, Sets


def finetune(
    recipe: RecipeName,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="CHECKPOINT",
            help="A run folder, file, network name or package:NAME to start from; sets init.checkpoint.",
        ),
    ] = None,
    sets: Sets = None,
    output: Output = None,
    seed: Seed = None,
    device: Device = "auto",
    resume: Resume = "auto",
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train on from a trained network, with a new classifier for new classes.

    The same command again goes on with an unfinished run and prints the result of a finished one.
    """
    from .training_commands import RunOptions, overrides, run_recipe  # slow: torch

    changes = overrides(sets or (), start=start, seed=seed)
    options = RunOptions(changes, output, device, resume, dry_run, as_json, quiet)
    run_recipe(recipe, options, command="finetune")


__all__ = ["finetune"]
