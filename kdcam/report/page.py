"""The page: sections put into the HTML template, pictures as base64, everything else escaped."""

from base64 import b64encode
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import NamedTuple

from kdcam.blocks import document
from kdcam.blocks.document import Section
from kdcam.report.sections.learning_curves import DARK_LINE_COLOURS, LINE_COLOURS

TEMPLATE = "report.html.j2"


class Page(NamedTuple):
    """A whole report."""

    title: str
    subtitle: str  # empty: there is none
    sections: Sequence[Section]  # those without a block are left out


def page_html(page: Page) -> str:
    """Return one HTML document that loads nothing; all of the page's text is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for kind in (
        document.Facts,
        document.FoldedText,
        document.Note,
        document.CaptionedPicture,
        document.Table,
        document.Tiles,
    ):
        environment.tests[kind.__name__.lower()] = lambda block, kind=kind: isinstance(block, kind)
    environment.filters["png"] = _data_url
    text = files("kdcam.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(text).render(
        title=page.title,
        subtitle=page.subtitle,
        sections=[section for section in page.sections if section.blocks],
        colours=list(enumerate(zip(LINE_COLOURS, DARK_LINE_COLOURS, strict=True))),
        version=version("kdcam"),
    )


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"


__all__ = ["TEMPLATE", "Page", "page_html"]
