"""`kdcam evaluate-robustness`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import BatchSize, Device, Json, Quiet, RunPaths, Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcam.robustness.runs import RunRobustness

    from .render import Table


Attacks = Annotated[
    str | None,
    typer.Option(
        "--attacks",
        metavar="NAME,...",
        help="Of fgsm, bim, pgd, mim; pgd-20 has 20 steps.  [default: fgsm,pgd]",
    ),
]
Norm = Annotated[
    str | None,
    typer.Option("--norm", metavar="linf|l2", help="How a change is measured.  [default: linf]"),
]
Eps = Annotated[
    str | None,
    typer.Option("--eps", metavar="X", help="Largest change, pixels in [0, 1].  [default: 8/255; l2: 0.5]"),
]
Alpha = Annotated[
    str | None,
    typer.Option("--alpha", metavar="X", help="Length of a step.  [default: a quarter of eps]"),
]
Steps = Annotated[int | None, typer.Option("--steps", metavar="N", help="Steps of an attack.  [default: 10]")]
Restarts = Annotated[
    int | None, typer.Option("--restarts", metavar="N", help="Random starts of pgd.  [default: 1]")
]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", help="Of the random starts.  [default: 0]")]
Examples = Annotated[
    int | None,
    typer.Option(
        "--n-examples", metavar="N", help="The first so many images of the test part.  [default: 1000]"
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
    batch_size: BatchSize = 100,
    weights: Weights = "selected",
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Attack runs and compare what is left.

    Shows a row an attack and a column a run, and writes robustness.json into each run.
    """
    import kdcam

    from . import render

    flags = {
        "attacks": None if attacks is None else [name.strip() for name in attacks.split(",")],
        "norm": None if norm is None else norm.lower(),
        "eps": eps,
        "alpha": alpha,
        "steps": steps,
        "restarts": restarts,
        "seed": seed,
        "n_examples": n_examples,
    }
    # The defaults live in the library: only what the user gave is handed over.
    settings: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    with render.watching(quiet=quiet) as progress:
        found = kdcam.evaluate_robustness(
            runs, settings=settings, weights=weights, batch_size=batch_size, device=device, progress=progress
        )
    if as_json:
        render.show_json([run.to_json() for run in found])
    else:
        _show(found)


def _show(found: "Sequence[RunRobustness]") -> None:
    from . import render

    render.show_table(robustness_table(found))
    for run in found:
        render.show_text(f"{run.run}: {run.report.subset}")
    if any(run.memorisation for run in found):
        render.show_text("")
        render.show_table(memorisation_table(found))


def robustness_table(found: "Sequence[RunRobustness]") -> "Table":
    """Return a table with a row an attack and a column a run."""
    from .render import Table, score_text

    rows = [("clean", "", *(score_text("acc", run.report.clean_acc) for run in found))]
    for same in zip(*(run.report.rows for run in found), strict=True):
        attack = same[0].settings
        numbers = (score_text("acc", row.robust_acc) for row in same)
        rows.append((same[0].attack, f"{attack.norm} eps {amount_text(attack.eps)}", *numbers))
    if len(rows) > 2:
        rows.append(
            ("worst case", "each image", *(score_text("acc", run.report.worst_case_acc) for run in found))
        )
    return Table(("attack", "budget", *(str(run.run) for run in found)), rows, title="accuracy", left=2)


def memorisation_table(found: "Sequence[RunRobustness]") -> "Table":
    """Return a table of what became of the wrong labels in the runs that were trained with some."""
    from .render import Table, score_text

    noisy = [run for run in found if run.memorisation is not None]
    columns = [[score_text("acc", share) for share in _shares(run)] for run in noisy]
    names = ("wrong labels memorised", "wrong labels recovered", "right labels learned")
    rows = [("wrong labels", *(f"{run.memorisation.wrong_labels:,}" for run in noisy if run.memorisation))]
    rows += [(name, *shares) for name, shares in zip(names, zip(*columns, strict=True), strict=True)]
    return Table(("training part", *(str(run.run) for run in noisy)), rows, title="label noise")


def _shares(run: "RunRobustness") -> "Sequence[float | None]":
    kept = run.memorisation
    return () if kept is None else (kept.memorised, kept.recovered, kept.clean_label_acc)


def amount_text(amount: float) -> str:
    """Return an amount in pixel units as a fraction of 255 where it is a whole number of grey levels."""
    levels = amount * 255
    return f"{round(levels)}/255" if abs(levels - round(levels)) < 1e-6 else f"{amount:g}"


__all__ = ["evaluate_robustness"]
