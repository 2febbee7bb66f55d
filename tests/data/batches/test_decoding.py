import io
import re
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
import torch
from PIL import Image

from kdcam.data.batches.decoding import (
    _PixelBudget,
    as_tensor,
    bad_image_reason,
    fit_square,
    open_picture,
    read_image,
)
from kdcam.data.common_config import MAX_PIXELS
from kdcam.errors import DataError


def gradient(height=12, width=16):
    rows, columns = numpy.mgrid[:height, :width]
    return numpy.stack([rows * 20, columns * 15, rows * 0 + 60], -1).astype(numpy.uint8)


def corner(path, channels=3, place=(0, 0)):
    image = read_image(path, image_size=8, channels=channels)
    assert image.dtype == torch.uint8
    assert image.shape == (channels, 8, 8)
    return image[:, place[0], place[1]].tolist()


def save(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def flat(*colour, size=(8, 8)):
    return numpy.full((*size, len(colour)), colour, numpy.uint8)


def test_a_picture_of_the_right_size_is_unchanged(tmp_path):
    array = numpy.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=numpy.uint8)
    image = read_image(save(tmp_path / "a.png", array), image_size=8, channels=3)
    assert torch.equal(image, torch.from_numpy(array).permute(2, 0, 1))


def test_gray_and_colour_become_the_channels_asked_for(tmp_path):
    gray = save(tmp_path / "gray.png", numpy.full((8, 8), 77, numpy.uint8))
    assert corner(gray) == [77, 77, 77]
    assert corner(gray, channels=1) == [77]
    assert corner(save(tmp_path / "red.png", flat(255, 0, 0)), channels=1) == [76]


def test_alpha_is_laid_over_white(tmp_path):
    assert corner(save(tmp_path / "clear.png", flat(10, 20, 30, 0))) == [255, 255, 255]
    assert corner(save(tmp_path / "solid.png", flat(10, 20, 30, 255))) == [10, 20, 30]
    half = corner(save(tmp_path / "half.png", flat(0, 0, 0, 128)))
    assert half == [127, 127, 127]
    gray = Image.merge("LA", [Image.new("L", (8, 8), 0), Image.new("L", (8, 8), 0)])
    gray.save(tmp_path / "la.png")
    assert corner(tmp_path / "la.png", channels=1) == [255]


@pytest.mark.parametrize("transparency", [None, 0, b"\x00\xff"])
def test_palettes_are_colours_and_their_transparency_is_white(tmp_path, transparency):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([200, 0, 0, 0, 100, 0])
    image.putpixel((7, 7), 1)
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "p.png", **options)
    assert corner(tmp_path / "p.png") == ([200, 0, 0] if transparency is None else [255, 255, 255])
    assert corner(tmp_path / "p.png", place=(7, 7)) == [0, 100, 0]


def test_gif_and_one_bit(tmp_path):
    Image.new("P", (8, 8), 3).save(
        tmp_path / "a.gif", save_all=True, append_images=[Image.new("P", (8, 8), 9)]
    )
    assert len(corner(tmp_path / "a.gif")) == 3
    Image.new("1", (8, 8), 1).save(tmp_path / "one.png")
    assert corner(tmp_path / "one.png", channels=1) == [255]


def test_sixteen_bit_is_scaled_not_clipped(tmp_path):
    values = numpy.full((8, 8), 257 * 100, numpy.uint16)
    values[0, 0] = 65535
    path = save(tmp_path / "deep.png", values)
    assert corner(path, channels=1) == [255]
    assert corner(path, place=(4, 4)) == [100, 100, 100]
    assert corner(save(tmp_path / "deep.tif", values), channels=1, place=(4, 4)) == [100]


def test_sixteen_bit_colour(tmp_path):
    row = b"\0" + struct.pack(">HHH", 65535, 257 * 100, 0) * 8

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 8)) + chunk(b"IEND", b"")
    (tmp_path / "rgb16.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert corner(tmp_path / "rgb16.png") == [255, 100, 0]


def test_float_pixels_need_a_known_range(tmp_path):
    path = save(tmp_path / "unit.tif", numpy.full((8, 8), 0.5, numpy.float32))
    assert corner(path, channels=1) == [128]
    for name, value in (("wide", 3.0), ("nan", numpy.nan)):
        path = save(tmp_path / f"{name}.tif", numpy.full((8, 8), value, numpy.float32))
        with pytest.raises(DataError, match=f"{name}.tif: floating-point pixels"):
            open_picture(path)
    path = save(tmp_path / "int.tif", numpy.full((8, 8), 10**6, numpy.int32))
    with pytest.raises(DataError, match=r"32-bit pixels from 1e\+06"):
        open_picture(path)


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    red, green, blue = corner(tmp_path / "c.jpg")
    assert red > 240
    assert green < 15
    assert blue < 15


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    from PIL import ImageOps

    image = Image.fromarray(gradient())
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "o.png", exif=exif)
    upright = open_picture(tmp_path / "o.png")
    with Image.open(tmp_path / "o.png") as again:
        expected = ImageOps.exif_transpose(again)
    assert numpy.array_equal(numpy.asarray(upright), numpy.asarray(expected))
    assert upright.size == ((12, 16) if orientation > 4 else (16, 12))


def test_a_damaged_exif_block_spoils_nothing(tmp_path):
    save(tmp_path / "e.jpg", gradient(), exif=b"Exif\0\0nonsense")
    assert open_picture(tmp_path / "e.jpg").size == (16, 12)


def test_the_middle_square_is_kept_without_distortion(tmp_path):
    array = flat(0, 0, 0, size=(10, 30))
    array[:, 10:20] = 255
    image = read_image(save(tmp_path / "wide.png", array), image_size=10, channels=3)
    assert int(image.min()) == 255


def test_a_large_jpeg_may_be_read_at_a_reduced_size_and_looks_the_same(tmp_path):
    smooth = Image.fromarray(gradient()).resize((1600, 1200), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "big.jpg", quality=95)
    reduced = open_picture(tmp_path / "big.jpg", at_least=64)
    assert reduced.size == (200, 150)
    small = as_tensor(fit_square(reduced, 32, 3)).float()
    exact = read_image(tmp_path / "big.jpg", image_size=32, channels=3).float()
    assert 0 < float((small - exact).abs().mean()) < 2


def test_evaluation_reads_a_large_jpeg_at_its_full_size(tmp_path):
    noise = numpy.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=numpy.uint8)
    path = save(tmp_path / "big.jpg", noise, quality=95)
    with Image.open(path) as image:
        expected = image.resize((32, 32), Image.Resampling.BICUBIC, box=(100, 0, 700, 600))
    assert torch.equal(read_image(path, image_size=32, channels=3), as_tensor(expected))


def broken_files(folder):
    buffer = io.BytesIO()
    Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=numpy.uint8)).save(
        buffer, "JPEG"
    )
    jpeg = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=numpy.uint8)).save(
        buffer, "PNG"
    )
    png = buffer.getvalue()
    damaged = bytearray(png)
    damaged[len(png) // 2] ^= 255
    contents = {
        "empty.jpg": b"",
        "text.jpg": b"this is not an image",
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut.png": png[: len(png) // 2],
        "header.png": png[:30],
        "damaged.png": bytes(damaged),
        "soi.jpg": jpeg[:4],
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def test_broken_files_are_named_with_the_reason(tmp_path):
    words = {"empty": "is empty", "text": "not an image", "cut": "truncated or damaged"}
    for path in broken_files(tmp_path):
        with pytest.raises(DataError) as caught:
            open_picture(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        assert words.get(path.stem, "") in message
        assert bad_image_reason(path) == message


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: cannot be opened \(No such file"):
        open_picture(tmp_path / "gone.png")
    with pytest.raises(DataError, match="cannot be opened"):
        open_picture(tmp_path)


def encoded(array, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["TGA", "ICO", "PCX", "SGI", "DDS", "EPS", "MSP", "XBM"])
def test_formats_that_hardly_anybody_needs_are_refused_unread(tmp_path, kind):
    array = (
        numpy.zeros((16, 16, 3), numpy.uint8) if kind not in ("MSP", "XBM") else numpy.zeros((16, 16), bool)
    )
    (tmp_path / "a").write_bytes(encoded(array, kind))
    with pytest.raises(
        DataError, match=r"a: not an image \(no JPEG, PNG, .* or AVIF file starts like this\)"
    ):
        open_picture(tmp_path / "a")


def heic(brand=b"heic", behind=b"mif1heic"):
    return (16 + len(behind)).to_bytes(4, "big") + b"ftyp" + brand + b"\0\0\0\0" + behind + b"\0" * 40


@pytest.mark.parametrize("data", [heic(), heic(b"heix"), heic(b"mif1", b"mif1heic")])
def test_a_heic_file_says_what_reads_it(tmp_path, monkeypatch, data):
    monkeypatch.setattr("kdcam.data.batches.decoding.find_spec", lambda _: None)
    (tmp_path / "a.heic").write_bytes(data)
    with pytest.raises(DataError, match=r'a HEIC file, .* `pip install "kdcam\[heic\]"`, or save it as JPEG'):
        open_picture(tmp_path / "a.heic")


def test_heic_is_read_where_its_package_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(flat(200, 100, 50, size=(64, 64)))).save(tmp_path / "a.heic", quality=-1)
    red, green, blue = corner(tmp_path / "a.heic")
    assert (abs(red - 200), abs(green - 100), abs(blue - 50)) < (4, 4, 4)
    (tmp_path / "b.heic").write_bytes(heic())
    with pytest.raises(DataError, match=r"b\.heic: truncated or damaged"):
        open_picture(tmp_path / "b.heic")


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (13_000, 13_000)).save(path)
    reason = (
        r"large\.png: 13000 x 13000 pixels, 169 million, are more than the 89 million .* data\.max_pixels"
    )
    with pytest.raises(DataError, match=reason):
        open_picture(path, max_pixels=MAX_PIXELS)
    assert re.match(".*" + reason, bad_image_reason(path, max_pixels=MAX_PIXELS))
    with pytest.raises(DataError, match="16 x 12 pixels"):
        open_picture(save(tmp_path / "a.png", gradient()), max_pixels=191)
    assert open_picture(tmp_path / "a.png", max_pixels=192).size == (16, 12)


def test_threads_decode_large_pictures_one_after_the_other():
    room, inside, most = _PixelBudget(100), [], []

    def use(pixels):
        with room.of(pixels):
            inside.append(pixels)
            most.append(sum(inside))
            time.sleep(0.001)
            inside.remove(pixels)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, [40, 90, 10, 250, 60, 60, 100, 1] * 5))
    assert max(most) == 250  # one alone may be larger than the room
    assert all(total <= 100 or total == 250 for total in most)


def test_pillow_writes_nothing_about_damaged_tags(tmp_path):
    damaged = bytearray(encoded(gradient(), "TIFF"))
    damaged[-6:] = b"\xff" * 6
    (tmp_path / "a.tif").write_bytes(damaged)
    save(tmp_path / "b.jpg", gradient(), exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")
    code = (
        "import sys; from pathlib import Path; from kdcam.data.batches.decoding import bad_image_reason;"
        "[bad_image_reason(Path(name)) for name in sys.argv[1:]]"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.tif", tmp_path / "b.jpg"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (found.stdout, found.stderr) == ("", "")
    with pytest.warns(UserWarning, match="Corrupt EXIF"), Image.open(tmp_path / "b.jpg") as image:
        image.getexif()


def test_good_files_have_no_reason(tmp_path):
    assert bad_image_reason(save(tmp_path / "a.png", gradient())) is None
