import io
import math

import numpy
import pytest
from PIL import Image

from kdcam.report.sections.learning_curves import (
    DARK,
    DARK_LINE_COLOURS,
    LIGHT,
    LINE_COLOURS,
    Line,
    Panel,
    Theme,
    draw_panels,
)


def pixels(theme: Theme, *panels: Panel) -> numpy.ndarray:
    with Image.open(io.BytesIO(draw_panels(panels, theme))) as picture:
        return numpy.asarray(picture.convert("RGBA"))


def drawn(picture: numpy.ndarray, colour: str) -> int:
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return int((picture == [*wanted, 255]).all(-1).sum())


@pytest.mark.parametrize(("theme", "colours"), [(LIGHT, LINE_COLOURS), (DARK, DARK_LINE_COLOURS)])
def test_a_line_a_run_on_a_transparent_page(theme: Theme, colours: tuple[str, ...]) -> None:
    lines = [Line(0, [1, 2, 3], [3.0, 2.0, 1.0], None), Line(8, [1, 2], [1.0, 2.0], 2)]
    picture = pixels(theme, Panel("cam", lines))
    assert picture[0, 0, 3] == 0
    assert drawn(picture, colours[0]) > 100
    assert drawn(picture, colours[1]) > 100  # the ninth run begins the colours anew, with dashes
    assert drawn(picture, colours[2]) == 0


def test_a_term_that_starts_late_or_once_is_seen() -> None:
    late = Panel("cam", [Line(0, [1, 2], [math.nan, 2.0], None)])
    assert drawn(pixels(LIGHT, late), LINE_COLOURS[0]) > 20
    alone = Panel("$kd$", [Line(1, [1], [2.0], None)])
    assert drawn(pixels(LIGHT, alone), LINE_COLOURS[1]) > 20


def test_pictures_grow_by_rows_of_three() -> None:
    panel = Panel("cam", [Line(0, [1, 2], [1.0, 2.0], None)])
    one, four = pixels(LIGHT, panel), pixels(LIGHT, *[panel] * 4)
    assert four.shape[0] == 2 * one.shape[0]
    assert four.shape[1] == 3 * one.shape[1]
