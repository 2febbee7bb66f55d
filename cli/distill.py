"""`kdcam distill`."""

from typing import Annotated

import typer

from .options import Device, DryRun, Json, Output, Quiet, RecipeName, Resume, Seed, Sets


def distill(
    recipe: RecipeName,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher",
            metavar="PATH",
            help="A run folder, file or network name; sets teacher.checkpoint. Repeat for several teachers.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="A distillation method (kd, dkd, caam_cam, crd ...): its losses and weights replace the recipe's.",
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
    """Train a student under a teacher as a recipe says.

    The same command again goes on with an unfinished run and prints the result of a finished one.
    """
    from .training_commands import RunOptions, overrides, run_recipe  # slow: torch

    changes = overrides(sets or (), teachers=teacher or (), seed=seed)
    options = RunOptions(changes, output, device, resume, dry_run, as_json, quiet, method)
    run_recipe(recipe, options, command="distill")


__all__ = ["distill"]
