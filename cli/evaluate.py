"""`kdcam evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kdcam.blocks.document import Table
from kdcam.scores.main_scores import score_text

from . import render
from .options import BatchSize, DataSets, Device, Json, Quiet, Rest, RunPath, Weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdcam.comparison.table.run_measures import StoredEvaluations
    from kdcam.scores.classification import ClassificationReport, MultiLabelReport

Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        min=0,
        max=1,
        metavar="P",
        help="Of several labels an image: probability above which one is said to be there; 0.5 unless given.",
    ),
]
_MATRIX_CLASSES = 20  # with more classes the commonest confusions are listed instead
_LISTED_CONFUSIONS = 10


def evaluate(
    run: RunPath,
    part: Annotated[
        Literal["train", "validation", "test"], typer.Option("--part", help="Which part of the run's data.")
    ] = "test",
    weights: Weights = "selected",
    threshold: Threshold = None,
    sets: DataSets = None,
    rest: Rest = False,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a run on its test part.

    Top-1 and top-5 accuracy, negative log-likelihood, calibration error (15 bins), classes, confusion matrix;
    of several labels an image: mean average precision, F1 of all decisions and of the classes, classes.
    Below, of selected weights, what few-shot, verify and localize have found of them.
    """

    from kdcam import api  # slow: torch
    from kdcam.comparison.table.run_measures import StoredEvaluations, read_evaluations  # slow: pydantic
    from kdcam.models.weights.config_json import read_config  # slow: torch
    from kdcam.recipe.recipe_files import data_overrides  # slow: tomllib

    with render.watching(quiet=quiet) as progress:
        report = api.evaluate(
            run,
            part=part,
            weights=weights,
            batch_size=batch_size,
            threshold=threshold,
            data=data_overrides(sets or ()),
            rest=rest,
            device=device,
            progress=progress,
        )
    stored = read_config(Path(run))
    names = stored.label_names or tuple(str(index) for index in range(stored.num_classes))
    # They are held against the file of the selected weights.
    others = read_evaluations(Path(run)) if weights == "selected" else StoredEvaluations()
    if as_json:
        head = {"run": run, "part": part, "weights": weights, "label_names": names}
        found = {kind: one.values for kind, one in others.found.items()}
        render.show_json({**head, **report.to_json(), "evaluations": found})
        return
    title = f"{run}: {weights} weights, {part} part, {report.images:,} images"
    render.show_tables(_tables(report, names, title=title))
    _show_others(others)


def _show_others(others: "StoredEvaluations") -> None:
    """Print the headlines of other evaluations in the run's folder, and which are not shown."""
    from kdcam.comparison.table.run_measures import evaluation_title  # slow: pydantic

    rows = [
        (evaluation_title(kind, name), f"{value:.2%}")
        for kind, one in others.found.items()
        for name, value in one.values.items()
    ]
    if rows:
        render.show_text("")
        render.show_table(Table(("other evaluation", "value"), rows, title="on images of their own"))
    for reason in others.left_out:
        render.show_notice(f"not shown: {reason}")


def _tables(
    report: "ClassificationReport | MultiLabelReport", names: "Sequence[str]", *, title: str
) -> "Iterator[Table]":
    from kdcam.scores.classification import ClassificationReport  # slow: torch

    yield Table(
        ("score", "value"),
        [(name, score_text(name, value)) for name, value in report.headline().items()],
        title=title,
    )
    if isinstance(report, ClassificationReport):
        yield class_table(report, names)
        small = len(names) <= _MATRIX_CLASSES
        yield confusion_matrix(report, names) if small else commonest_confusions(report, names)
    else:
        yield label_table(report, names)


def label_table(report: "MultiLabelReport", names: "Sequence[str]") -> Table:
    """Return each label's average precision and F1 as a table."""
    rows = [
        (name, score_text("mean_ap", precision), score_text("f1", f1))
        for name, precision, f1 in zip(names, report.per_class_ap, report.per_class_f1, strict=True)
    ]
    return Table(
        ("class", "average precision", "f1"), rows, title=f"decisions at probability {report.threshold:g}"
    )


def class_table(report: "ClassificationReport", names: "Sequence[str]") -> Table:
    """Return each class's accuracy as a table."""
    rows = [
        (name, f"{sum(counts):,}", score_text("acc", accuracy))
        for name, counts, accuracy in zip(names, report.confusion, report.per_class_acc, strict=True)
    ]
    return Table(("class", "images", "acc"), rows)


def confusion_matrix(report: "ClassificationReport", names: "Sequence[str]") -> Table:
    """Return the confusion matrix as a table."""
    rows = [
        (name, *(str(count) if count else "." for count in counts))
        for name, counts in zip(names, report.confusion, strict=True)
    ]
    return Table(("true \\ predicted", *names), rows, title="confusion matrix")


def commonest_confusions(report: "ClassificationReport", names: "Sequence[str]") -> Table:
    """Return the commonest confusions as a table."""
    wrong = [
        (count, names[true], names[predicted])
        for true, counts in enumerate(report.confusion)
        for predicted, count in enumerate(counts)
        if count and true != predicted
    ]
    commonest = sorted(wrong, key=lambda entry: -entry[0])[:_LISTED_CONFUSIONS]
    rows = [(true, predicted, str(count)) for count, true, predicted in commonest]
    return Table(("true", "predicted", "images"), rows, title="commonest confusions (--json: all)", left=2)


__all__ = ["class_table", "commonest_confusions", "confusion_matrix", "evaluate", "label_table"]
