"""Errors under corruptions as multiples of another run's."""

from pydantic import BaseModel, ConfigDict

from kdcam.errors import DataError
from kdcam.evaluation.robustness.corruption_report import CorruptionReport, CorruptionRow
from kdcam.scores.classification import mean_of_known
from kdcam.settings.messages import listed


class RelativeRow(BaseModel):
    """A corruption's errors as multiples of the base run's; 1: as the base."""

    model_config = ConfigDict(frozen=True)

    name: str
    error: float | None  # sum of errors over severities / the base's; None: the base makes none
    added_error: (
        float | None
    )  # sum of (error - clean error) / the base's; None: unknown, or the base loses nothing


class RelativeErrors(BaseModel):
    """Errors under corruptions as multiples of a base run's."""

    model_config = ConfigDict(frozen=True)

    rows: tuple[RelativeRow, ...]
    mean_error: float | None  # mean over the corruptions that have the number; None: none has
    mean_added_error: float | None


def relative_errors(report: CorruptionReport, base: CorruptionReport) -> RelativeErrors:
    """Return errors as multiples of a base run's on the same corrupted images.

    For each corruption the sum of errors over severities, divided by the base's, and the same of what each adds to
    its own clean error; then the means over corruptions. Source: Hendrycks and Dietterich 2019, arXiv 1903.12261,
    section 4 (CE and relative CE, there with AlexNet as the base).

    Raises ``DataError`` where the two are not of the same images, corruptions and severities.
    """
    for key in ("source", "images", "subset", "seed", "severities"):
        mine, other = getattr(report, key), getattr(base, key)
        if mine != other:
            raise DataError(
                f"corruptions: {key} is {mine!r} here and {other!r} in the base run; evaluate both alike"
            )
    names, others = ([row.name for row in one.rows] for one in (report, base))
    if names != others:
        raise DataError(
            f"corruptions: {listed(names)} here and {listed(others)} in the base run; evaluate both alike"
        )
    rows = tuple(
        RelativeRow(
            name=row.name,
            error=_ratio(row.mean_error, other.mean_error),
            added_error=_ratio(_added(row, report), _added(other, base)),
        )
        for row, other in zip(report.rows, base.rows, strict=True)
    )
    return RelativeErrors(
        rows=rows,
        mean_error=mean_of_known([row.error for row in rows]),
        mean_added_error=mean_of_known([row.added_error for row in rows]),
    )


def _added(row: CorruptionRow, report: CorruptionReport) -> float | None:
    return None if report.clean_acc is None else row.mean_error - (1 - report.clean_acc)


def _ratio(error: float | None, base: float | None) -> float | None:
    return None if error is None or base is None or base <= 0 else error / base


__all__ = ["RelativeErrors", "RelativeRow", "relative_errors"]
