import io

import numpy
import pytest
from matplotlib.figure import Figure
from PIL import Image

from kdcam.evaluation.verification.verification_evaluation import draw_roc
from kdcam.evaluation.verification.verification_metrics import RocCurve, roc_curve

DISTANCES = numpy.random.default_rng(0).random(60)
SAME = DISTANCES + numpy.random.default_rng(1).random(60) < 1
CURVE = roc_curve(DISTANCES, SAME)


def test_equal_pictures_for_equal_curves() -> None:
    picture = draw_roc({"one": CURVE, "other": RocCurve(CURVE.far, CURVE.far)}, others=30)
    assert picture == draw_roc({"one": CURVE, "other": RocCurve(CURVE.far, CURVE.far)}, others=30)
    assert picture != draw_roc({"one": CURVE}, others=30)
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG"


def test_lines_hold_the_curves_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    draw_roc({f"run {index}": CURVE for index in range(9)}, others=30)
    (axes,) = drawn[0].axes
    lines = axes.get_lines()
    assert [line.get_label() for line in lines] == [f"run {index}" for index in range(9)]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 9
    across, up = lines[0].get_data()
    numpy.testing.assert_allclose(up, 100 * CURVE.tar)
    numpy.testing.assert_allclose(across[CURVE.far > 0.1], 100 * CURVE.far[CURVE.far > 0.1])
    assert min(across) > 0  # zero has no place on a logarithmic axis
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize("name", ["a$x_{b$", r"a$\bad$", "_x", "$_net"])
def test_names_that_would_be_formulas_or_left_out(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **b: drawn.append(figure) or save(figure, *a, **b)
    )
    draw_roc({name: CURVE, "other": CURVE}, others=30)
    (legend,) = drawn[0].legends
    assert [text.get_text().strip().replace(r"\$", "$") for text in legend.get_texts()] == [name, "other"]
