"""Tests of kdcam.cam.map_pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kdcam.cam.map_pictures import captioned, grid, magnified, overlay, save_png, to_picture
from kdcam.errors import CheckpointError


def test_alpha_zero_is_the_image_and_alpha_one_the_map() -> None:
    image, activation = torch.rand(3, 8, 8), torch.rand(8, 8)
    np.testing.assert_allclose(overlay(image, activation, alpha=0.0), image.numpy())
    alone = overlay(image, activation, alpha=1.0)
    np.testing.assert_allclose(alone, overlay(torch.zeros(3, 8, 8), activation, alpha=1.0))
    half = overlay(image, activation, alpha=0.5)
    np.testing.assert_allclose(half, (alone + image.numpy()) / 2, atol=1e-6)


def test_high_places_are_brighter_than_low_ones() -> None:
    activation = torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0]])
    brightness = overlay(torch.zeros(3, 1, 5), activation, alpha=1.0).mean(axis=0)[0]
    assert (np.diff(brightness) > 0).all()


def test_a_grey_image_and_a_smaller_map_of_numpy() -> None:
    picture = overlay(np.full((1, 12, 16), 0.5, np.float32), np.eye(3, dtype=np.float32))
    assert picture.shape == (3, 12, 16)
    assert picture.dtype == np.float32
    assert picture.min() >= 0
    assert picture.max() <= 1


def test_a_tensor_with_gradient_is_taken() -> None:
    assert overlay(torch.rand(3, 4, 4), torch.rand(4, 4, requires_grad=True)).shape == (3, 4, 4)


def test_to_picture_repeats_one_channel_and_takes_three_of_more() -> None:
    assert (to_picture(torch.full((1, 2, 2), 0.3)) == np.float32(0.3)).all()
    five = torch.rand(5, 2, 2)
    np.testing.assert_array_equal(to_picture(five), five[:3].numpy())


def test_grid_lays_out_rows_of_unlike_sizes() -> None:
    black, wide = np.zeros((3, 4, 4), np.float32), np.full((3, 2, 6), 0.5, np.float32)
    canvas = grid([[black, wide], [wide]], gap=1)
    assert canvas.shape == (3, 4 + 1 + 2, 6 + 1 + 6)
    assert (canvas[:, :4, :4] == 0).all()
    assert (canvas[:, :2, 7:13] == 0.5).all()
    assert (canvas[:, 5:7, :6] == 0.5).all()
    assert (canvas[:, 4] == 1).all()
    assert (canvas[:, 5:, 7:] == 1).all()


def test_save_png_keeps_the_pixels(tmp_path: Path) -> None:
    from PIL import Image

    picture = (torch.randint(0, 256, (3, 5, 7), generator=torch.Generator().manual_seed(0)) / 255).numpy()
    save_png(picture, tmp_path / "new" / "picture.png")
    with Image.open(tmp_path / "new" / "picture.png") as image:
        pixels = np.asarray(image)
    np.testing.assert_array_equal(pixels, np.rint(picture.transpose(1, 2, 0) * 255).astype(np.uint8))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CheckpointError, match=r"file/picture\.png: the picture cannot be written"):
        save_png(np.zeros((3, 2, 2), np.float32), tmp_path / "file" / "picture.png")


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="alpha is 2"):
        overlay(torch.rand(3, 4, 4), torch.rand(4, 4), alpha=2)
    with pytest.raises(ValueError, match=r"\(1, 4, 4\)"):
        overlay(torch.rand(3, 4, 4), torch.rand(1, 4, 4))
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        to_picture(torch.rand(4, 4))
    with pytest.raises(ValueError, match="at least one picture"):
        grid([[]])


def test_another_colormap_is_another_picture() -> None:
    activation = torch.rand(4, 4)
    inferno, viridis = (
        overlay(torch.zeros(1, 4, 4), activation, alpha=1.0, colormap=name) for name in ("inferno", "viridis")
    )
    np.testing.assert_array_equal(overlay(torch.zeros(1, 4, 4), activation, alpha=1.0), inferno)
    assert np.abs(inferno - viridis).max() > 0.1


def test_magnified_repeats_pixels_until_it_is_large_enough() -> None:
    small = np.random.default_rng(0).random((3, 5, 8), np.float32)
    large = magnified(small, least=12)
    assert large.shape == (3, 15, 24)
    np.testing.assert_array_equal(large[:, ::3, 1::3], small)
    assert magnified(small, least=5) is not None
    np.testing.assert_array_equal(magnified(small, least=4), small)


def test_a_caption_stands_above_the_picture_and_is_cut_to_its_width() -> None:
    picture = np.full((3, 20, 60), 0.5, np.float32)
    for text in ("cat", "a name that is much longer than sixty pixels", "кот"):
        told = captioned(picture, [text, ""])
        height = told.shape[1] - 20
        assert told.shape == (3, 20 + height, 60)
        np.testing.assert_array_equal(told[:, height:], picture)
        band = told[:, :height]
        assert band.max() == 1
        assert band.min() < 0.2  # ink
        assert (band[:, :, -1] == 1).all()  # nothing runs over the edge
    assert captioned(picture, ["", ""]).min() == 0.5


def test_save_png_leaves_the_old_file_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_png(np.zeros((3, 4, 4), np.float32), tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()

    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kdcam.files.atomic_writes.os.write", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save_png(np.ones((3, 4, 4), np.float32), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]
