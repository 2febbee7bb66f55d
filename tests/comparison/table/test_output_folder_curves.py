import io

import numpy as np
import pytest
from made_up_runs import measures, plan_of
from matplotlib.figure import Figure
from PIL import Image

from kdcam.comparison.table.aggregation import build_comparison
from kdcam.comparison.table.output_folder import (
    draw_score_curves,
    epochs_by_level,
    mean_and_range,
    score_levels,
)
from kdcam.comparison.table.text_formats import Comparison


def comparison(**curves: tuple[float | None, ...]) -> Comparison:
    """Return a comparison of rows with one curve each."""
    runs = {f"{name}-0": measures(0.5, curve=curve) for name, curve in curves.items()}
    return build_comparison(plan_of(list(curves), [0]), runs, {})


def pixels(picture: bytes | None) -> np.ndarray:
    assert picture is not None
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).reshape(-1, 3)


def test_without_a_validation_part_there_is_nothing_to_draw() -> None:
    assert draw_score_curves(comparison(alone=(), kd=())) is None


def test_each_row_has_a_colour_of_its_own() -> None:
    picture = draw_score_curves(comparison(alone=(0.1, 0.5, 0.6), kd=(0.3, 0.6, 0.7), nothing=()))
    colours = {tuple(pixel) for pixel in pixels(picture)}
    assert (0x00, 0x72, 0xB2) in colours
    assert (0xD5, 0x5E, 0x00) in colours
    assert (0x00, 0x9E, 0x73) not in colours


def test_equal_comparisons_give_equal_bytes_and_others_do_not() -> None:
    first = draw_score_curves(comparison(alone=(0.1, 0.5)))
    assert first == draw_score_curves(comparison(alone=(0.1, 0.5)))
    assert first != draw_score_curves(comparison(alone=(0.1, 0.4)))


@pytest.mark.parametrize("curve", [(0.5,), (0.5, 0.5), (0.2, None, 0.4), (0.0, 1.0)], ids=str)
def test_short_flat_and_broken_curves_are_drawn(curve: tuple[float | None, ...]) -> None:
    assert draw_score_curves(comparison(alone=curve)) is not None


def test_many_rows_and_long_names_are_drawn() -> None:
    assert (
        draw_score_curves(comparison(**{f"{'long' * 15}{index}": (0.1, 0.1 * index) for index in range(30)}))
        is not None
    )


def test_levels_go_from_the_lowest_to_the_highest_score() -> None:
    levels = score_levels([(0.2, None, 0.7), (0.1, 0.3)])
    assert (levels[0], levels[-1]) == (0.1, 0.7)
    assert np.diff(levels) == pytest.approx(0.6 / (len(levels) - 1))


def test_epochs_to_each_level_are_a_median_over_all_seeds() -> None:
    curves = [(0.2, 0.4, 0.6), (0.1, 0.5, 0.5)]
    assert epochs_by_level(curves, [0.1, 0.2, 0.45, 0.55]) == [1.0, 1.5, 2.5, None]
    assert epochs_by_level([*curves, (0.1, 0.6)], [0.55]) == [3.0]


def test_epochs_are_whole_numbers_on_the_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    draw_score_curves(comparison(alone=(0.1, 0.5, 0.6)))
    ticks = figures[0].axes[0].get_xticks()
    assert all(tick == round(tick) for tick in ticks)


def test_mean_and_range_by_epoch() -> None:
    found = mean_and_range([(0.2, 0.4, None), (0.4, 0.4, 0.5)])
    assert found[0] == pytest.approx((0.3, 0.2, 0.4))
    assert found[1] == pytest.approx((0.4, 0.4, 0.4))
    assert found[2] is None
