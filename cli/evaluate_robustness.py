"""`kdcam evaluate-robustness`."""

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from .options import BatchSize, Device, Json, Quiet, RunPaths, Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcam.robustness.config import AttackConfig
    from kdcam.robustness.multi_label import MultiLabelRobustnessReport
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

    for number, table in enumerate(robustness_tables(found)):
        if number > 0:
            render.show_text("")
        render.show_table(table)
    for run in found:
        render.show_text(f"{run.run}: {run.report.subset}")
    if any(run.memorisation for run in found):
        render.show_text("")
        render.show_table(memorisation_table(found))


class _Columns(NamedTuple):
    """One score of the runs of one task, a column a run."""

    title: str
    runs: "Sequence[RunRobustness]"
    attacks: "Sequence[tuple[str, AttackConfig]]"  # their labels and settings
    clean: "Sequence[float | None]"
    attacked: "Sequence[Sequence[float | None]]"  # a row an attack
    worst: "tuple[str, Sequence[float]] | None"  # of each what, and the scores; None: it has no worst case


def robustness_tables(found: "Sequence[RunRobustness]") -> "list[Table]":
    """Return tables with a row an attack and a column a run: one table a score.

    Runs with one label an image have an accuracy; those with several share none of their scores with them.
    """
    from kdcam.robustness.evaluate import RobustnessReport
    from kdcam.robustness.multi_label import MultiLabelRobustnessReport

    tables = []
    pairs = [(run, run.report) for run in found]
    single = [(run, report) for run, report in pairs if isinstance(report, RobustnessReport)]
    if single:
        runs, reports = zip(*single, strict=True)
        attacked = [[row.robust_acc for row in same] for same in zip(*(r.rows for r in reports), strict=True)]
        worst = ("each image", [report.worst_case_acc for report in reports])
        clean = [report.clean_acc for report in reports]
        attacks = [(row.attack, row.settings) for row in reports[0].rows]
        tables.append(_table(_Columns("accuracy", runs, attacks, clean, attacked, worst)))
    several = [(run, report) for run, report in pairs if isinstance(report, MultiLabelRobustnessReport)]
    if several:
        tables += _multi_label_tables([run for run, _ in several], [report for _, report in several])
    return tables


def _multi_label_tables(
    runs: "Sequence[RunRobustness]", reports: "Sequence[MultiLabelRobustnessReport]"
) -> "list[Table]":
    titles = {
        "label_acc": "label accuracy (decisions at probability 0.5)",
        "mean_ap": "mean average precision",
        "exact_acc": "exact accuracy (images with all decisions right)",
    }
    worst = {
        "label_acc": ("each decision", [report.worst_case_label_acc for report in reports]),
        "exact_acc": ("each image", [report.worst_case_exact_acc for report in reports]),
    }
    rows = list(zip(*(report.rows for report in reports), strict=True))
    return [
        _table(
            _Columns(
                title,
                runs,
                [(row.attack, row.settings) for row in reports[0].rows],
                [getattr(report.clean, name) for report in reports],
                [[getattr(row.scores, name) for row in same] for same in rows],
                worst.get(name),
            )
        )
        for name, title in titles.items()
    ]


def _table(columns: _Columns) -> "Table":
    from .render import Table, score_text

    lines = [("clean", "", columns.clean)]
    for (label, settings), scores in zip(columns.attacks, columns.attacked, strict=True):
        lines.append((label, f"{settings.norm} eps {amount_text(settings.eps)}", scores))
    if len(columns.attacks) > 1 and columns.worst is not None:
        lines.append(("worst case", *columns.worst))
    rows = [(name, budget, *(score_text("acc", score) for score in scores)) for name, budget, scores in lines]
    names = (str(run.run) for run in columns.runs)
    return Table(("attack", "budget", *names), rows, title=columns.title, left=2)


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
