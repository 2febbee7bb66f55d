from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdcam.data.batches.decoding import read_image
from kdcam.data.box_files import BoxLine
from kdcam.data.datasets import load_data
from kdcam.data.object_boxes import (
    PictureFrame,
    boxes_of_part,
    boxes_of_source,
    named_pictures,
    one_row_per_image,
    picture_frame,
)
from kdcam.data.source_configs import DigitScenesConfig, ImageFolderConfig
from kdcam.errors import DataError

NAMES = ("cat", "dog")
# Pillow 13 shears pixels of uncompressed TIFF files that are turned, so a compressed one is looked at.
FORMATS = {"png": {}, "jpg": {"quality": 100}, "tif": {"compression": "tiff_lzw"}, "webp": {"lossless": True}}


def line(picture, corners=(0, 0, 10, 10), *, class_name=None, by_name=False, inclusive=False, frame=None):
    return BoxLine("boxes, line 7", picture, by_name, class_name, corners, inclusive, frame)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures of 40 x 20 pixels of two classes, a.png in both, split in train/ and test/."""
    for place in ("train/cat/1", "train/dog/1", "test/cat/a", "test/cat/b", "test/dog/a", "test/dog/d"):
        file = tmp_path / "root" / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(file)
    return tmp_path / "root"


@pytest.fixture
def part(root: Path):
    return load_data(ImageFolderConfig(root=root, image_size=10, validation=0)).test


def places(part, root):
    return [path.relative_to(root / "test").as_posix() for path in part.paths]


def test_boxes_of_a_parts_pictures(part, root: Path) -> None:
    lines = [
        line("test/dog/d.png", (10, 0, 20, 20)),
        line("test/cat/a.png", (15, 5, 30, 10)),
        line("test/dog/d.png", (20, 10, 30, 20)),
        line("test/cat/b.png", (0, 0, 10, 20)),  # left of the middle square
        line("train/cat/1.png"),
    ]
    found = boxes_of_part(lines, part, root=root, label_names=NAMES)
    order = places(part, root)
    assert found.images.tolist() == sorted([order.index("cat/a.png"), order.index("dog/d.png")])
    assert torch.equal(found.classes, part.targets[found.images])
    row = found.images.tolist().index(order.index("dog/d.png"))
    assert found.boxes[row].tolist() == [[0, 0, 5, 10], [5, 5, 10, 10]]
    assert found.boxes[1 - row, 0].tolist() == [2.5, 2.5, 10, 5]
    assert found.boxes[1 - row, 1].isnan().all()
    assert (found.without_box, found.cut_away, found.elsewhere, found.image_size) == (1, 1, 1, 10)


def test_boxes_of_other_classes_than_the_image_are_left_out(part, root: Path) -> None:
    lines = [
        line("test/cat/a.png", (10, 0, 20, 10), class_name="dog"),
        line("test/cat/a.png", (10, 0, 30, 20), class_name="cat"),
        line("test/dog/d.png", (10, 0, 30, 20), class_name="1"),
    ]
    found = boxes_of_part(lines, part, root=root, label_names=NAMES)
    assert (len(found.images), found.boxes.shape[1], found.other_class) == (2, 1, 1)


def test_pictures_by_name_in_a_frame_of_64_pixels(part, root: Path) -> None:
    lines = [
        line("d.png", (16, 0, 47, 31), class_name="dog", by_name=True, inclusive=True, frame=64),
        line("a.png", (0, 0, 63, 63), class_name="dog", by_name=True, inclusive=True, frame=64),
        line("z.png", class_name="dog", by_name=True, inclusive=True, frame=64),
    ]
    found = boxes_of_part(lines, part, root=root, label_names=NAMES)
    order = places(part, root)
    boxes = dict(zip(found.images.tolist(), found.boxes[:, 0].tolist(), strict=True))
    assert boxes == {order.index("dog/d.png"): [0, 0, 10, 5], order.index("dog/a.png"): [0, 0, 10, 10]}
    assert found.elsewhere == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (line("test/cat/x.png"), r"boxes, line 7: there is no picture 'test/cat/x\.png' below .*root"),
        (line(""), r"boxes, line 7: there is no picture ''"),
        (
            line("test\\cat\\a.png"),
            r"there is no picture 'test.*; name pictures .*, with / between folders, or",
        ),
        (line("a" * 5000), r"line 7: there is no picture 'a{80}\.\.\.' below"),
        (
            line("test/cat/a.png", (0, 0, 41, 9)),
            r"line 7: the box 0, 0, 41, 9 reaches outside .* 40 x 20 pixels",
        ),
        (line("test/cat/a.png", (-1, 0, 4, 9)), r"the box -1, 0, 4, 9 reaches outside"),
        (line("test/cat/a.png", (0, 0, 40, 9), inclusive=True), r"x1 below 40, y1 below 20 .* inclusive"),
        (line("test/cat/a.png", class_name="dgo"), r"found class 'dgo'; did you mean 'dog'\?; .* cat, dog"),
        (line("train/cat/1.png"), r"no picture of the part has a box \(1 boxes are of other pictures"),
    ],
)
def test_what_is_wrong_is_named(part, root: Path, given: BoxLine, said: str) -> None:
    with pytest.raises(DataError, match=said):
        boxes_of_part([given], part, root=root, label_names=NAMES)


def test_a_box_may_end_at_the_border(part, root: Path) -> None:
    for given in (
        line("test/cat/a.png", (0, 0, 40, 20)),
        line("test/cat/a.png", (0, 0, 39.5, 19), inclusive=True),
    ):
        found = boxes_of_part([given], part, root=root, label_names=NAMES)
        assert found.boxes[0, 0].tolist() == [0, 0, 10, 10]


def test_images_that_are_no_files_are_refused() -> None:
    test = load_data(DigitScenesConfig(image_size=16, train_size=60, test_size=10)).test
    with pytest.raises(DataError, match=r"images are no picture files .*--root"):
        boxes_of_part([line("a.png")], test, root=None, label_names=NAMES)


def test_boxes_that_the_data_knows() -> None:
    test = load_data(DigitScenesConfig(image_size=16, train_size=60, test_size=10)).test
    found = boxes_of_source(test)
    assert torch.equal(found.boxes[:, 0].float(), test.boxes)
    assert torch.equal(found.classes, test.targets)
    several = load_data(DigitScenesConfig(image_size=16, train_size=60, test_size=30, multi_label=True)).test
    found = boxes_of_source(several)
    assert len(found.images) == int(several.targets.sum()) > 30
    assert (several.targets[found.images, found.classes] == 1).all()
    assert found.boxes.isfinite().all()
    assert boxes_of_source(load_data(DigitScenesConfig(image_size=16, train_size=60)).train) is not None


def test_data_without_boxes_knows_none(part) -> None:
    assert boxes_of_source(part) is None


def test_pictures_that_the_boxes_name(root: Path) -> None:
    lines = [
        line("dog/a.png", (10, 0, 20, 20)),
        line("cat/b.png", (10, 0, 30, 20), class_name="1"),
        line("dog/a.png", (10, 0, 30, 20), class_name="cat"),
    ]
    found = named_pictures(lines, root=root / "test", label_names=NAMES, image_size=20)
    assert [path.name for path in found.paths] == ["a.png", "b.png"]
    assert found.targets.tolist() == [-1, 1]  # the first one shows both
    assert (found.boxes.images.tolist(), found.boxes.classes.tolist()) == ([0, 0, 1], [0, 1, 1])


def test_a_picture_is_one_however_its_path_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line("cat/a.png", (10, 0, 20, 20)), line("dog/../cat/./a.png", (20, 0, 30, 20))]
    found = named_pictures(lines, root=root / "test", label_names=NAMES, image_size=20)
    assert len(found.paths) == 1
    assert found.boxes.boxes.tolist() == [[[0, 0, 10, 20], [10, 0, 20, 20]]]
    monkeypatch.chdir(root / "test" / "dog")
    for folder in (Path(), Path("../dog")):
        found = named_pictures(
            [line("d.png", (10, 0, 30, 20))], root=folder, label_names=NAMES, image_size=20
        )
        assert found.targets.tolist() == [1]
    with pytest.raises(DataError, match=r"root: a+ is no folder"):
        named_pictures([], root=Path("a" * 5000), label_names=NAMES, image_size=20)


def test_all_boxes_of_an_image_in_one_row(root: Path) -> None:
    lines = [
        line("dog/a.png", (10, 0, 20, 20), class_name="dog"),
        line("cat/b.png", (10, 0, 30, 20), class_name="1"),
        line("dog/a.png", (10, 0, 30, 10), class_name="cat"),
        line("dog/a.png", (20, 0, 30, 20), class_name="dog"),
    ]
    found = named_pictures(lines, root=root / "test", label_names=NAMES, image_size=20).boxes
    assert (found.images.tolist(), found.classes.tolist()) == ([0, 0, 1], [0, 1, 1])
    joined = one_row_per_image(found)
    assert (joined.images.tolist(), joined.classes.tolist()) == ([0, 1], [-1, 1])
    assert joined.boxes[0].tolist() == [[0, 0, 20, 10], [0, 0, 10, 20], [10, 0, 20, 20]]
    assert joined.boxes[1, 0].tolist() == [0, 0, 20, 20]
    assert joined.boxes[1, 1:].isnan().all()
    assert joined.pixels[0].tolist() == [[1, 1]] * 3


def test_pixels_that_boxes_were_given_in(root: Path) -> None:
    options = {"root": root / "test", "label_names": NAMES, "image_size": 10}
    plain = named_pictures([line("cat/a.png", (10, 0, 20, 20))], **options)
    assert plain.boxes.pixels.tolist() == [[[0.5, 0.5]]]
    framed = named_pictures(
        [line("d.png", (0, 0, 63, 63), by_name=True, class_name="dog", frame=64)], **options
    )
    assert framed.boxes.pixels.tolist() == [[[10 / 20 * 40 / 64, 10 / 20 * 20 / 64]]]


def test_pictures_by_name_below_a_folder(root: Path) -> None:
    lines = [
        line("d.png", (0, 0, 64, 64), by_name=True, class_name="dog", frame=64),
        line("a.png", (0, 0, 64, 64), by_name=True, class_name="cat", frame=64),
    ]
    found = named_pictures(lines, root=root / "test", label_names=NAMES, image_size=20)
    assert [path.relative_to(root / "test").as_posix() for path in found.paths] == ["dog/d.png", "cat/a.png"]
    with pytest.raises(DataError, match=r"line 7: no pictures below .* are called 'q\.png'"):
        named_pictures([line("q.png", by_name=True)], root=root, label_names=NAMES, image_size=20)


def test_pictures_whose_boxes_are_all_cut_away_or_that_cannot_be_read(root: Path) -> None:
    options = {"label_names": NAMES, "image_size": 20}
    with pytest.raises(DataError, match=r"the middle squares of the 1 pictures show none"):
        named_pictures([line("cat/a.png", (0, 0, 9, 9))], root=root / "test", **options)
    (root / "test" / "cat" / "a.png").write_text("no picture")
    with pytest.raises(DataError, match=r"a\.png: not an image"):
        named_pictures([line("cat/a.png")], root=root / "test", **options)
    with pytest.raises(DataError, match=r"root: .*nowhere is no folder; .*--root"):
        named_pictures([line("cat/a.png")], root=root / "nowhere", **options)


def test_pictures_outside_root_are_refused(part, root: Path) -> None:
    Image.new("RGB", (4, 4)).save(root.parent / "x.png")
    for name in ("../x.png", str(root.parent / "x.png")):
        with pytest.raises(DataError, match=r"boxes, line 7: .*x\.png' leads out of .*root; name pictures"):
            boxes_of_part([line(name, class_name="cat")], part, root=root, label_names=NAMES)


def saved(folder: Path, pixels: np.ndarray, orientation: int, ending: str) -> Path:
    path = folder / f"{orientation}.{ending}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **FORMATS[ending])
    return path


def bright_box(path: Path, image_size: int) -> tuple[float, float, float, float]:
    """Return where the bright pixels lie in what a network sees."""
    rows, columns = np.nonzero(read_image(path, image_size=image_size, channels=1)[0].numpy() > 127)
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(60, 40), (40, 60), (50, 50)])
@pytest.mark.parametrize("ending", FORMATS)
def test_a_box_follows_the_picture_whichever_way_it_is_turned(
    tmp_path: Path, orientation: int, size: tuple[int, int], ending: str
) -> None:
    width, height = size
    pixels = np.zeros((height, width), np.uint8)
    pixels[14:30, 16:28] = 255
    path = saved(tmp_path, pixels, orientation, ending)
    frame = picture_frame(path)
    assert frame == (width, height, orientation)
    for image_size in (min(size), 3 * min(size)):  # as it is, and enlarged
        found = frame.in_square((16, 14, 28, 30), image_size)
        assert found == pytest.approx(bright_box(path, image_size), abs=1e-9)


def test_a_box_is_cut_at_the_middle_square() -> None:
    frame = PictureFrame(300, 100)
    assert frame.in_square((0, 20, 150, 60), 50) == (0, 10, 25, 30)
    assert frame.in_square((150, 0, 300, 100), 50) == (25, 0, 50, 50)
    assert frame.in_square((0, 20, 100, 60), 50) is None
    assert frame.in_square((200, 20, 300, 60), 50) is None


def test_an_upright_box_has_its_corners_in_order() -> None:
    for orientation in range(1, 9):
        x0, y0, x1, y1 = PictureFrame(30, 20, orientation).upright((1, 2, 4, 8))
        assert x0 < x1
        assert y0 < y1


@pytest.mark.parametrize("kept", [7, 10, 13])
def test_a_damaged_exif_block_turns_nothing(tmp_path: Path, kept: int) -> None:
    """The block breaks off somewhere: boxes stay where the reader of pictures leaves the pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((40, 60), np.uint8)
    pixels[14:30, 16:28] = 255
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, exif=exif.tobytes()[:kept])
    frame = picture_frame(path)
    assert (frame.width, frame.height) == (60, 40)
    assert frame.in_square((16, 14, 28, 30), 40) == pytest.approx(bright_box(path, 40))


def test_a_pixel_as_it_is_seen() -> None:
    assert PictureFrame(300, 100).pixel(50) == (0.5, 0.5)
    assert PictureFrame(300, 100, orientation=6).pixel(50, across=3, down=2) == (1.0, 1.5)


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    for name, said in (("a.png", "not an image"), ("missing.png", "cannot be opened")):
        with pytest.raises(DataError, match=rf"{name}: {said} \("):
            picture_frame(tmp_path / name)
