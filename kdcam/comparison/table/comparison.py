"""A whole comparison as plain values, given as JSON, CSV and Markdown; read again without torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from kdcam.comparison.table.comparison_result import ComparedRow, FailedRun
from kdcam.comparison.table.markdown import csv_of, markdown_of
from kdcam.files.json_files_part import json_form


@dataclass(frozen=True)
class Comparison:
    """What was compared and what came out."""

    score: str  # "acc1" (top-1 accuracy) or "mean_ap" (mean average precision), in [0, 1]
    part: str  # whose selected score the differences are of: "test", or "validation" where no run has a test part
    base: str  # the first row's name
    seeds: tuple[int, ...]  # wanted of each row
    sets: tuple[str, ...]  # "key=value" that all rows share
    level: float | None  # the base's mean last validation score, to which epochs are counted
    rows: tuple[ComparedRow, ...]
    failed: tuple[FailedRun, ...]
    missing: tuple[str, ...]  # names of runs that neither finished nor failed
    machines: tuple[Mapping[str, Any], ...]  # different ones on which the runs were made
    versions: Mapping[str, tuple[str | None, ...]]  # package -> its different versions
    command: tuple[str, ...]
    # Files of an earlier kdcam lack what follows.
    left_out: tuple[str, ...] = ()  # later evaluations of runs that are not in the table, and why

    def to_json(self) -> dict[str, Any]:
        """Return everything in a form that JSON takes; scores in [0, 1], published numbers in per cent."""
        document: dict[str, Any] = json_form(asdict(self))
        return document

    def to_csv(self) -> str:
        """Return a line a row, scores in [0, 1]; columns that are empty everywhere are left out."""
        return csv_of(self)

    def to_markdown(self) -> str:
        """Return the table, what its numbers mean, the rows, the failed runs, and what it was made with."""
        return markdown_of(self)


def stored_comparison(document: Mapping[str, Any]) -> Comparison:
    """Return what comparison.json holds; ``ValueError`` (pydantic's) where it has another layout."""
    return TypeAdapter(Comparison).validate_python(document)


__all__ = ["Comparison", "stored_comparison"]
