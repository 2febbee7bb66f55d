"""Tests of kdcam.explanation.explanation_pictures."""

import numpy as np
import pytest
import torch

from kdcam.errors import RecipeError
from kdcam.explanation.explanation_pictures import MapStyle, check_map_style, panels

IMAGE, AGNOSTIC = torch.rand(1, 40, 40), torch.rand(5, 5)
CAPTIONS = [("cat", "label"), ("dog", "")]


def drawn(maps: torch.Tensor, **look) -> list[np.ndarray]:
    row = panels(
        IMAGE, AGNOSTIC, maps, title=("input", "maps: cam"), captions=CAPTIONS, look=MapStyle(**look)
    )
    return [picture[:, -160:] for picture in row]  # without the captions


def test_the_image_the_caam_and_a_picture_for_each_class() -> None:
    row = drawn(torch.rand(2, 5, 5), alpha=0.5)
    assert len(row) == 4
    assert {picture.shape for picture in row} == {(3, 160, 160)}
    np.testing.assert_array_equal(row[0][:, ::4, ::4], IMAGE.expand(3, -1, -1).numpy())
    assert all(np.abs(picture - row[0]).max() > 0.1 for picture in row[1:])


def test_alpha_zero_is_the_image_alone() -> None:
    row = drawn(torch.rand(2, 5, 5), alpha=0.0)
    for picture in row[1:]:
        np.testing.assert_allclose(picture, row[0], atol=1e-6)


def test_on_one_scale_a_flat_map_looks_flat() -> None:
    maps = torch.stack([torch.rand(5, 5), 0.5 + 0.01 * torch.rand(5, 5)])
    each, row = (drawn(maps, alpha=1.0, scale=scale)[3] for scale in ("each", "row"))
    assert np.ptp(each.mean(axis=0)) > 0.5
    assert np.ptp(row.mean(axis=0)) < 0.05


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (MapStyle(alpha=1.5), r"alpha: found 1.5; allowed: 0 .* to 1"),
        (MapStyle(alpha=float("nan")), "alpha: found nan"),
        (
            MapStyle(colormap="infernoo"),
            r"colormap: found 'infernoo'; did you mean 'inferno'\?; allowed: inferno, magma",
        ),
        (MapStyle(scale="all"), "scale: found 'all'; allowed: each, row"),
    ],
)
def test_what_cannot_be_drawn_is_refused(look: MapStyle, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_map_style(look)
    check_map_style(MapStyle())
