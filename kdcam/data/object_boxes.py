"""The objects' boxes of pictures, from the data or a file, in the pixels that a network sees."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.decoding import exif_orientation, picture_file
from kdcam.data.box_files import BoxLine
from kdcam.data.dataset_parts import Part
from kdcam.errors import DataError
from kdcam.files.folder_listing import files_below
from kdcam.files.paths import expanded, is_file, is_folder, path_below
from kdcam.settings.messages import did_you_mean, listed

if TYPE_CHECKING:
    from PIL.Image import Image

Edges = tuple[float, float, float, float]
"""x0, y0, x1, y1 of a box, the end exclusive."""

_SHOWN = 80  # characters of a name in a message
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257  # tags
_LYING = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class ObjectBoxes(NamedTuple):
    """The boxes of M pairs of an image and a class, at most B of each."""

    images: Tensor  # (M,) int64, positions in the part, in its order
    classes: Tensor  # (M,) int64; -1 where `one_row_per_image` joined several
    boxes: Tensor  # (M, B, 4) float64 x0, y0, x1, y1 in pixels of the image, end exclusive; nan beyond a pair's boxes
    pixels: Tensor  # (M, B, 2) float64 width and height, in pixels of the image, of a pixel that a box was given in
    image_size: int  # side of the images, in pixels
    without_box: int = 0  # images of the part that have none
    cut_away: int = 0  # images of which the middle square shows none of their boxes
    other_class: int = 0  # boxes left out, since they are of another class than their image
    elsewhere: int = 0  # boxes left out, since their picture is not in the part


class NamedPictures(NamedTuple):
    """The pictures that a file of boxes names."""

    paths: tuple[Path, ...]
    targets: Tensor  # (N,) int64, -1 where a picture has boxes of several classes
    boxes: ObjectBoxes


@dataclass
class _Found:
    """Boxes as they are gathered."""

    image_size: int
    # box and pixel, as in `ObjectBoxes`
    by_pair: dict[tuple[int, int], list[tuple[float, ...]]] = field(default_factory=lambda: defaultdict(list))
    other_class: int = 0
    elsewhere: int = 0


def boxes_of_source(part: Part) -> ObjectBoxes | None:
    """Return the boxes that a data set knows of its images; None where it knows none."""
    if part.boxes is None:
        return None
    size, boxes = part.images.image_size, part.boxes.double()
    if boxes.ndim == 2:
        images = torch.arange(len(part))
        return ObjectBoxes(
            images, part.targets.clone(), boxes[:, None], torch.ones(len(part), 1, 2).double(), size
        )
    images, classes = boxes.isfinite().all(2).nonzero(as_tuple=True)
    without = len(part) - len(images.unique())
    pixels = torch.ones(len(images), 1, 2).double()
    return ObjectBoxes(images, classes, boxes[images, classes][:, None], pixels, size, without_box=without)


def boxes_of_part(
    lines: Iterable[BoxLine], part: Part, *, root: Path | None, label_names: Sequence[str]
) -> ObjectBoxes:
    """Return the boxes that a file gives for the pictures of a part.

    With one label an image, boxes of another class than the image's are left out; boxes without a class are of the
    image's. Pictures of other parts are left out. Those left out are counted.

    Args:
        lines: see `kdcam.data.box_files.read_boxes`.
        part: of picture files.
        root: the folder that paths are given from.
        label_names: of the classes.

    Raises:
        DataError: the part is not of files, a named picture is missing, a box reaches outside its picture or has an
            unknown class, or no picture of the part has a box.
    """
    if part.paths is None or root is None:
        raise DataError(
            "boxes: the run's images are no picture files that a file of boxes could name; leave --boxes out where the "
            "data knows its boxes (digit-scenes), or name a folder of pictures with --root"
        )
    pictures, found = _PartPictures(part.paths), _Found(part.images.image_size)
    for line in lines:
        index = pictures.position(line, root)
        if index is None:
            found.elsewhere += 1
            continue
        number = _class_of(line, part.targets[index], label_names)
        if number is None:
            found.other_class += 1
        else:
            _add(found, line, part.paths[index], (index, number))
    if not found.by_pair:
        raise DataError(
            f"boxes: no picture of the part has a box ({found.elsewhere} boxes are of other pictures, "
            f"{found.other_class} of other classes); choose another --part, or name their folder with --root"
        )
    return _gathered(found, len(part))


def named_pictures(
    lines: Iterable[BoxLine], *, root: Path, label_names: Sequence[str], image_size: int
) -> NamedPictures:
    """Return the pictures that a file of boxes names, with their classes and boxes.

    A picture's class is the box's; without one, the name of the folder that it lies in.

    Args:
        lines: see `kdcam.data.box_files.read_boxes`.
        root: the folder of the pictures; of Tiny-ImageNet's files the pictures lie anywhere below it.
        label_names: of the classes; a class may also be given by its number.
        image_size: side, in pixels, that a network sees.

    Raises:
        DataError: ``root`` is no folder, a picture is missing or unreadable, a box reaches outside its picture or has
            an unknown class, or no box is left.
    """
    root = expanded(root)
    if not is_folder(root):
        raise DataError(f"root: {root} is no folder; name the folder of the pictures with --root")
    paths: dict[Path, int] = {}
    found, by_name = _Found(image_size), _FolderPictures(root)
    for line in lines:
        path = by_name.path(line) if line.by_name else _existing_picture(line, root)
        index = paths.setdefault(path, len(paths))
        name = line.class_name if line.class_name is not None else path.parent.name
        _add(found, line, path, (index, _class_index(line, name, label_names)))
    boxes = _gathered(found, len(paths))
    if len(boxes.images) == 0:
        raise DataError(
            f"boxes: the middle squares of the {len(paths)} pictures show none of the boxes; name others"
        )
    targets = torch.full((len(paths),), -1)
    for image, number in zip(boxes.images.tolist(), boxes.classes.tolist(), strict=True):
        targets[image] = number
    once = boxes.images.bincount(minlength=len(paths)) == 1
    return NamedPictures(tuple(paths), targets.where(once, -1), boxes)


def one_row_per_image(boxes: ObjectBoxes) -> ObjectBoxes:
    """Return boxes as they are for maps of no class of the boxes: those of all classes of an image in one row."""
    images, rows = boxes.images.unique(return_inverse=True)
    pairs, columns = boxes.boxes.isfinite().all(2).nonzero(as_tuple=True)
    row = rows[pairs]  # in order
    counts = row.bincount(minlength=len(images))
    column = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
    table = torch.full((len(images), int(counts.max()), 6), torch.nan, dtype=torch.float64)
    table[row, column] = torch.cat([boxes.boxes, boxes.pixels], 2)[pairs, columns]
    classes = torch.full((len(images),), -1).index_put((rows,), boxes.classes)
    classes = classes.where(rows.bincount() == 1, -1)
    return boxes._replace(images=images, classes=classes, boxes=table[..., :4], pixels=table[..., 4:])


def _class_of(line: BoxLine, target: Tensor, label_names: Sequence[str]) -> int | None:
    """Return the class that a box is taken for; None: it is none of its picture's labels."""
    if line.class_name is not None:
        index = _class_index(line, line.class_name, label_names)
        there = bool(target[index] > 0) if target.ndim else index == int(target)
        return index if there else None
    if target.ndim:
        raise DataError(
            f"{line.place}: tells no class, and its picture may have several labels; give the file a column class"
        )
    return int(target)


def _class_index(line: BoxLine, name: str, label_names: Sequence[str]) -> int:
    if name in label_names:
        return list(label_names).index(name)
    if name.isdecimal() and int(name) < len(label_names):
        return int(name)
    raise DataError(
        f"{line.place}: found class {name!r}{did_you_mean(name, label_names)}; the run's classes are "
        f"{listed(label_names[:10])}{' ...' * (len(label_names) > 10)}. Correct it, leave these boxes out, or take "
        "another run"
    )


def _add(found: _Found, line: BoxLine, path: Path, pair: tuple[int, int]) -> None:
    """Add a box as it lies in the image; ``DataError`` where it reaches outside its picture."""
    frame = picture_frame(path)
    width, height = (line.frame, line.frame) if line.frame is not None else (frame.width, frame.height)
    x0, y0, x1, y1 = line.corners
    outside = x1 >= width or y1 >= height if line.inclusive else x1 > width or y1 > height
    if min(x0, y0) < 0 or outside:
        ends = "below" if line.inclusive else "up to"
        raise DataError(
            f"{line.place}: the box {x0:g}, {y0:g}, {x1:g}, {y1:g} reaches outside its picture of {width} x {height} "
            f"pixels; allowed: from 0, x1 {ends} {width}, y1 {ends} {height} where ends are "
            f"{'inclusive' if line.inclusive else 'exclusive'} (--box-ends)"
        )
    x0, y0, x1, y1 = line.edges
    wide, tall = frame.width / width, frame.height / height
    stored = (x0 * wide, y0 * tall, min(x1, width) * wide, min(y1, height) * tall)
    edges = frame.in_square(stored, found.image_size)
    pixel = frame.pixel(found.image_size, across=wide, down=tall)
    found.by_pair[pair] += [] if edges is None else [(*edges, *pixel)]


def _gathered(found: _Found, images: int) -> ObjectBoxes:
    pairs = sorted(pair for pair, boxes in found.by_pair.items() if boxes)
    most = max((len(found.by_pair[pair]) for pair in pairs), default=1)
    table = torch.full((len(pairs), most, 6), torch.nan, dtype=torch.float64)
    for row, pair in zip(table, pairs, strict=True):
        row[: len(found.by_pair[pair])] = torch.tensor(found.by_pair[pair], dtype=torch.float64)
    shown = {image for image, _ in pairs}
    given = {image for image, _ in found.by_pair}
    return ObjectBoxes(
        torch.tensor([image for image, _ in pairs], dtype=torch.int64),
        torch.tensor([number for _, number in pairs], dtype=torch.int64),
        table[..., :4],
        table[..., 4:],
        found.image_size,
        without_box=images - len(given),
        cut_away=len(given - shown),
        other_class=found.other_class,
        elsewhere=found.elsewhere,
    )


class _PartPictures:
    """The positions of a part's pictures, by path and by name."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.by_path = {_plain_path(path): index for index, path in enumerate(paths)}
        self.by_name: dict[str, list[int]] = defaultdict(list)
        for index, path in enumerate(paths):
            self.by_name[path.name].append(index)
        self.paths = paths

    def position(self, line: BoxLine, root: Path) -> int | None:
        """Return the position of a box's picture; None: it is not in the part.

        Raises ``DataError`` where a path leads nowhere.
        """
        if not line.by_name:
            index = self.by_path.get(_plain_path(expanded(root) / line.picture))
            if index is None:
                _existing_picture(line, expanded(root))  # of another part, or nowhere: then it is an error
            return index
        alike = self.by_name.get(line.picture, [])
        if len(alike) > 1:
            alike = [index for index in alike if self.paths[index].parent.name == line.class_name]
        return alike[0] if alike else None


class _FolderPictures:
    """Pictures below a folder by name; the folder is listed at the first question."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found: dict[str, list[Path]] | None = None

    def path(self, line: BoxLine) -> Path:
        """Return the picture of a box; of several of one name that in the folder named as the class.

        Raises ``DataError`` where there is none, or still several.
        """
        if self.found is None:
            self.found = defaultdict(list)
            for path in files_below(self.root):
                self.found[path.name].append(path)
        alike = self.found.get(line.picture, [])
        if len(alike) > 1:
            alike = [path for path in alike if line.class_name in (path.parent.name, path.parent.parent.name)]
        if len(alike) != 1:
            raise DataError(
                f"{line.place}: {len(alike) or 'no'} pictures below {self.root} are called {_shown(line)}; name the "
                "folder of the pictures that the boxes are of with --root"
            )
        return _plain_path(alike[0])


def _existing_picture(line: BoxLine, root: Path) -> Path:
    """Return the picture of a box by its path from a folder on, as `_plain_path` gives it.

    Raises ``DataError`` where there is no such file.
    """
    path = path_below(root, line.picture)
    if path is None:
        raise DataError(
            f"{line.place}: {_shown(line)} leads out of {root}; name pictures from that folder on, or a "
            "folder that holds them all with --root"
        )
    if line.picture and is_file(path):
        return _plain_path(path)
    turned = ", with / between folders" if "\\" in line.picture else ""
    raise DataError(
        f"{line.place}: there is no picture {_shown(line)} below {root}; name pictures from that folder on{turned}, or "
        "another folder with --root"
    )


def _plain_path(path: Path) -> Path:
    """Return a path from the root of the file system on, without ``..``; links stay."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links away from the names in the file


def _shown(line: BoxLine) -> str:
    return repr(line.picture if len(line.picture) <= _SHOWN else f"{line.picture[:_SHOWN]}...")


class PictureFrame(NamedTuple):
    """The size of a picture as its file holds it, and how it is turned to stand upright."""

    width: int
    height: int
    orientation: int = 1  # EXIF's, 1 to 8

    def upright(self, edges: Edges) -> Edges:
        """Return a box of the stored picture as it lies in the upright one."""
        corners = [self._turned(edges[0], edges[1]), self._turned(edges[2], edges[3])]
        (left, right), (top, bottom) = (sorted(values) for values in zip(*corners, strict=True))
        return (left, top, right, bottom)

    def in_square(self, edges: Edges, image_size: int) -> Edges | None:
        """Return a box of the stored picture as it lies in the upright middle square at ``image_size`` pixels.

        It is cut at the square's border; None: nothing of it is left. As `kdcam.data.batches.decoding.fit_square` cuts.
        """
        width, height = self._as_it_stands(self.width, self.height)
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        x0, y0, x1, y1 = self.upright(edges)
        found = [
            min(max((value - start) * image_size / side, 0.0), float(image_size))
            for value, start in ((x0, left), (y0, top), (x1, left), (y1, top))
        ]
        if found[2] <= found[0] or found[3] <= found[1]:
            return None
        return (found[0], found[1], found[2], found[3])

    def pixel(self, image_size: int, *, across: float = 1.0, down: float = 1.0) -> tuple[float, float]:
        """Return width and height, in the pixels of `in_square`, of an area of the stored picture.

        Args:
            image_size: as that of `in_square`.
            across: width of the area, in pixels of the stored picture; by default it is one of them.
            down: its height.
        """
        scale = image_size / min(self.width, self.height)
        width, height = self._as_it_stands(across, down)
        return (width * scale, height * scale)

    def _as_it_stands(self, width: float, height: float) -> tuple[float, float]:
        return (height, width) if self.orientation in _LYING else (width, height)

    def _turned(self, x: float, y: float) -> tuple[float, float]:
        if self.orientation in (2, 3):
            x = self.width - x
        if self.orientation in (3, 4):
            y = self.height - y
        if self.orientation in (6, 7):
            y = self.height - y
        if self.orientation in (7, 8):
            x = self.width - x
        return (y, x) if self.orientation in _LYING else (x, y)


def picture_frame(path: Path) -> PictureFrame:
    """Return the frame of a picture file; its pixels are not decoded.

    Raises:
        DataError: the file is missing or cannot be read as an image; the message begins with its path.
    """
    with picture_file(path) as image:
        width, height = _stored_size(image)
        return PictureFrame(width, height, exif_orientation(image))


def _stored_size(image: "Image") -> tuple[int, int]:
    # Of a TIFF file Pillow gives the size that it has once turned; its tags tell how it is stored.
    tags = getattr(image, "tag_v2", None)
    return image.size if tags is None else (int(tags[_TIFF_WIDTH]), int(tags[_TIFF_HEIGHT]))


__all__ = [
    "Edges",
    "NamedPictures",
    "ObjectBoxes",
    "PictureFrame",
    "boxes_of_part",
    "boxes_of_source",
    "named_pictures",
    "one_row_per_image",
    "picture_frame",
]
