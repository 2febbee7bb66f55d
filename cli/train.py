"""`kdcam train`."""

from .options import Device, DryRun, Json, Output, Quiet, RecipeName, Resume, Seed, Sets


def train(
    recipe: RecipeName,
    sets: Sets = None,
    output: Output = None,
    seed: Seed = None,
    device: Device = "auto",
    resume: Resume = "auto",
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a classifier as a recipe says.

    The same command again goes on with an unfinished run and prints the result of a finished one.
    """
    from .training_commands import RunOptions, overrides, run_recipe  # slow: torch

    changes = overrides(sets or (), seed=seed)
    options = RunOptions(changes, output, device, resume, dry_run, as_json, quiet)
    run_recipe(recipe, options, command="train")


__all__ = ["train"]
