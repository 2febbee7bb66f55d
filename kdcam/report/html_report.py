"""From folders of runs and comparisons to one HTML file: sections put into the template, all text escaped."""

import os
from base64 import b64encode
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined

from kdcam.blocks.document import CaptionedPicture, Facts, FoldedText, Note, Section, Table, Tiles
from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import make_folder, write_atomically
from kdcam.files.paths import is_folder, resolved
from kdcam.report.reported_run import (
    ReportedRun,
    check_reported_folder,
    is_comparison,
    other_pictures,
    read_reported,
)
from kdcam.report.sections import file_sections
from kdcam.report.sections.comparison import comparison_section
from kdcam.report.sections.learning_curves import DARK_LINE_COLOURS, LINE_COLOURS, curve_section
from kdcam.report.sections.reproducibility import difference_section, reproducibility_section
from kdcam.report.sections.scores import runs_section, score_section
from kdcam.runs.run_files import REPORT_FILE
from kdcam.settings.messages import listed

_TEMPLATE = "report.html.j2"
_BLOCK_TESTS = {  # as the template asks: {% if block is note %}
    "facts": Facts,
    "folded_text": FoldedText,
    "note": Note,
    "picture": CaptionedPicture,
    "table": Table,
    "tiles": Tiles,
}


class Page(NamedTuple):
    """A whole report."""

    title: str
    subtitle: str  # empty: there is none
    sections: Sequence[Section]  # those without a block are left out


def write_report(folders: Sequence[str | Path], output: str | Path | None = None) -> Path:
    """Write what is known of runs and comparisons as one HTML file that needs nothing but itself; return the file.

    Args:
        folders: of runs, finished or not, and of comparisons; at least one. One named twice counts once.
        output: the file; one that is there is replaced. None: report.html in the folder, of several folders in the one
            that holds them all.

    Raises ``CheckpointError`` where a folder holds neither run nor comparison, a file in it is damaged or of another
    layout, or the report cannot be written; ``ValueError`` without any folder.
    """
    if not folders:
        raise ValueError("no folders; wanted at least one")
    chosen = list({resolved(folder): Path(folder) for folder in folders}.values())
    for folder in chosen:
        check_reported_folder(folder)
    file = _default_file(chosen) if output is None else Path(output)
    if is_folder(file):
        raise CheckpointError(
            f"--output {file}: is a folder; name a file, as in --output {file / REPORT_FILE}"
        )
    make_folder(file.absolute().parent)
    write_atomically(file, page_html(_page(chosen)).encode(errors="backslashreplace"))
    return file


def _default_file(folders: Sequence[Path]) -> Path:
    if len(folders) == 1:
        return folders[0] / REPORT_FILE
    return Path(os.path.commonpath([folder.absolute().parent for folder in folders])) / REPORT_FILE


def _page(folders: Sequence[Path]) -> Page:
    names = _names(folders)
    comparisons = [folder for folder in folders if is_comparison(folder)]
    runs = [read_reported(folder, names[folder]) for folder in folders if folder not in comparisons]
    sections = [
        comparison_section(folder, title=f"Comparison {names[folder]}" if len(folders) > 1 else "Comparison")
        for folder in comparisons
    ]
    if runs:
        sections += _run_sections(runs)
    title = listed(names.values()) if len(folders) <= 3 else f"{len(folders)} runs"
    lone = runs[0] if len(folders) == 1 and runs else None
    return Page(title, str(lone.recipe.get("description") or "") if lone else "", sections)


def _names(folders: Sequence[Path]) -> dict[Path, str]:
    """Return what folders are called: by their own names, by their paths where two would be called alike."""
    own = [resolved(folder).name for folder in folders]
    unique = len(set(own)) == len(own)
    return {folder: name if unique else str(folder) for folder, name in zip(folders, own, strict=True)}


def _run_sections(runs: Sequence[ReportedRun]) -> list[Section]:
    alone = len(runs) == 1
    sections = [score_section(runs[0])] if alone else [runs_section(runs), difference_section(runs)]
    found = list(file_sections(runs))
    others = [other_pictures([(run.name, run.folder) for run in runs], found), reproducibility_section(runs)]
    # Curves, which take seconds to draw, come once everything is read: damaged files are told of at once.
    return [*sections, curve_section(runs), *found, *others]


def page_html(page: Page) -> str:
    """Return one HTML document that loads nothing; all of the page's text is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for name, kind in _BLOCK_TESTS.items():
        environment.tests[name] = lambda block, kind=kind: isinstance(block, kind)
    environment.filters["png"] = _data_url
    text = files("kdcam.report").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(text).render(
        title=page.title,
        subtitle=page.subtitle,
        sections=[section for section in page.sections if section.blocks],
        colours=list(enumerate(zip(LINE_COLOURS, DARK_LINE_COLOURS, strict=True))),
        version=version("kdcam"),
    )


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"


__all__ = ["Page", "page_html", "write_report"]
