"""`kdcam evaluate-robustness`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import kdcam

from . import render
from .options import (
    BatchSize,
    DataSets,
    Device,
    Json,
    Pictures,
    Quiet,
    Rest,
    Resume,
    RunPaths,
    Weights,
    given,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcam.evaluation.robustness.robustness_file import RunRobustness

Attacks = Annotated[
    str | None,
    typer.Option(
        "--attacks",
        metavar="NAME,...",
        help="Of fgsm, bim, pgd, mim, cw-margin, apgd-ce, apgd-dlr, apgd-t, square, standard, autoattack, or none; "
        "pgd-20 has 20 steps, square-1000 1,000 queries. standard: apgd-ce, apgd-t and square in turn, each on what "
        "still stands.  [default: fgsm,pgd]",
    ),
]
Norm = Annotated[
    str | None,
    typer.Option("--norm", metavar="linf|l2", help="How a change is measured.  [default: linf]"),
]
Eps = Annotated[
    str | None,
    typer.Option(
        "--eps",
        metavar="X,...",
        help="Largest change, pixels in [0, 1]; several make a curve, 0 is its clean end.  "
        "[default: 8/255; l2: 0.5]",
    ),
]
Alpha = Annotated[
    str | None,
    typer.Option("--alpha", metavar="X", help="Length of a step.  [default: a quarter of eps]"),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", metavar="N", help="Steps of an attack.  [default: 10; apgd: 100]"),
]
Restarts = Annotated[
    int | None,
    typer.Option("--restarts", metavar="N", help="Random starts.  [default: 1]"),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="Of all that is drawn.  [default: 0]"),
]
Examples = Annotated[
    int | None,
    typer.Option(
        "--n-examples",
        metavar="N",
        help="The first so many images of the test part, or as many drawn from all classes where the first do not "
        "show them.  [default: 1000]",
    ),
]
Source = Annotated[
    str | None,
    typer.Option(
        "--source", metavar="RUN", help="Craft the attacks on this run, too, and try them on the others."
    ),
]
Checks = Annotated[
    bool,
    typer.Option("--checks/--no-checks", help="Whether the attacks can be believed."),
]
Corruptions = Annotated[
    str | None,
    typer.Option(
        "--corruptions",
        metavar="all|NAME,...",
        help="Noise, blur, weather and other damage, kdcam's own: gaussian_noise, jpeg, fog ...",
    ),
]
Severities = Annotated[
    str | None,
    typer.Option(
        "--severities", metavar="1..5|N,...", help="How strong the corruptions are.  [default: 1..5]"
    ),
]
CorruptedSet = Annotated[
    str | None,
    typer.Option(
        "--corrupted-set", metavar="FOLDER", help="CIFAR-10-C, CIFAR-100-C or ImageNet-C, as published."
    ),
]
Base = Annotated[
    str | None,
    typer.Option("--base", metavar="RUN", help="Tell corruption errors relative to this run's."),
]
Calibration = Annotated[
    bool,
    typer.Option(
        "--calibration",
        help="NLL, Brier, ECE, MCE, before and after a temperature fitted on the validation part.",
    ),
]
Ood = Annotated[
    str | None,
    typer.Option(
        "--ood",
        metavar="FOLDER|RUN|NAME",
        help="Tell these images from the run's own: a folder of pictures, a run's test part, or a data set such as "
        "fashion-mnist or mnist=FOLDER.",
    ),
]
Figures = Annotated[
    Path | None,
    typer.Option(
        "--figures",
        metavar="FOLDER",
        help="Draw all runs together, too: against eps, severity and noise rate.",
    ),
]


def evaluate_robustness(
    runs: RunPaths,
    attacks: Attacks = None,
    norm: Norm = None,
    eps: Eps = None,
    alpha: Alpha = None,
    steps: Steps = None,
    restarts: Restarts = None,
    seed: Seed = None,
    n_examples: Examples = None,
    source: Source = None,
    checks: Checks = True,
    corruptions: Corruptions = None,
    severities: Severities = None,
    corrupted_set: CorruptedSet = None,
    base: Base = None,
    calibration: Calibration = False,
    ood: Ood = None,
    pictures: Pictures = True,
    figures: Figures = None,
    sets: DataSets = None,
    rest: Rest = False,
    resume: Resume = "auto",
    batch_size: BatchSize = 100,
    weights: Weights = "selected",
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Attack, corrupt and question runs, and compare what is left.

    Without options: fgsm and pgd-10 with checks whether they can be believed. Shows a row an attack and a column a
    run, and writes robustness.json and figures/ into each run; there what other commands found of the same weights
    stays. Stopped at any time, the same command goes on.
    """
    from kdcam.recipe.recipe_files import data_overrides  # slow: tomllib

    settings = given(
        attacks=_names(attacks),
        norm=None if norm is None else norm.lower(),
        eps=eps,
        alpha=alpha,
        steps=steps,
        restarts=restarts,
        seed=seed,
        n_examples=n_examples,
        source=source,
        checks=None if checks else False,
        corruptions=_names(corruptions),
        severities=severities,
        corrupted_set=corrupted_set,
        base=base,
        calibration=calibration or None,
        ood=ood,
    )
    with render.watching(quiet=quiet) as progress:
        found = kdcam.evaluate_robustness(
            runs,
            settings=settings,
            weights=weights,
            batch_size=batch_size,
            device=device,
            resume=resume,
            draw=pictures,
            figures=figures,
            data=data_overrides(sets or ()),
            rest=rest,
            progress=progress,
        )
    if as_json:
        render.show_json([run.to_json() for run in found])
    else:
        _show(found)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _show(found: "Sequence[RunRobustness]") -> None:
    from . import robustness_tables  # slow: torch

    render.show_tables(robustness_tables.tables(found))
    render.show_text("")
    for run in found:
        if run.attacks is not None:
            render.show_text(f"{run.run}: {run.attacks.subset}")
    for line in robustness_tables.warnings(found):
        render.show_text(line)


__all__ = ["evaluate_robustness"]
