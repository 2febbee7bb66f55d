"""Boxes of the real data sets beside the checkout, where they are."""

import csv
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import torch

import kdcam
from kdcam.data.box_files import read_boxes
from kdcam.data.object_boxes import named_pictures
from kdcam.evaluation.localization.box_accuracy import whole_pixels
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig
from kdcam.runs.checkpoint import save_model

SHARED = Path(__file__).parents[3] / "../shared/data"

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data sets are not in {SHARED}"),
]


def unpack(archive: str, folder: Path, *, below: str, most: int, folders: int) -> None:
    """Unpack the loose files of an archive, and a few pictures of the first folders below a place."""
    taken: Counter[str] = Counter()
    with tarfile.open(SHARED / archive) as tar:
        for member in tar:
            place = "/".join(member.name.split("/")[1:-1])
            if not member.isfile() or (place.startswith(below) and taken[place] >= most):
                continue
            if place.startswith(below):
                taken[place] += 1
            if place and not place.startswith((below, "boxes")):
                continue
            if len(taken) > folders:
                break
            tar.extract(member, folder, filter="data")


def network(names: tuple[str, ...], size: int, folder: Path) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(name="kdcam:resnet8_s2")
    save_model(
        folder,
        build_classifier(config, num_classes=len(names), in_channels=3, image_size=size, label_names=names),
    )
    return folder


def test_imagenettes_boxes_are_cut_down_as_published(tmp_path: Path) -> None:
    unpack("imagenette224-boxes.tar", tmp_path, below="val/", most=2, folders=10)
    root = tmp_path / "imagenette224-boxes"
    names = tuple(sorted(folder.name for folder in (root / "val").iterdir()))
    with (root / "val_boxes_224.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (root / row["path"]).exists()]
    boxes = root / "some.csv"
    with boxes.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    found = named_pictures(
        read_boxes(boxes, box_ends="inclusive"), root=root, label_names=names, image_size=224
    )
    assert len(found.paths) == 20
    assert found.boxes.cut_away == 0
    whole = whole_pixels(found.boxes.boxes.numpy(), 224, 224)
    for path, of_picture in zip(found.paths, whole, strict=True):
        expected = [
            [int(float(row[key])) for key in ("x0", "y0", "x1", "y1")]
            for row in rows
            if root / row["path"] == path
        ]
        assert of_picture[: len(expected)].tolist() == expected
    settings = {"boxes": boxes, "root": root, "box_ends": "inclusive"}
    (run,) = kdcam.localize(network(names, 224, tmp_path / "net"), settings=settings, device="cpu")
    assert (run.report.images, run.report.resolution) == (20, 224)


def test_tiny_imagenets_boxes_in_pictures_of_32_pixels(tmp_path: Path) -> None:
    unpack("tiny-imagenet32-100.tar.xz", tmp_path, below="train/", most=10, folders=2)
    root = tmp_path / "tiny-imagenet32-100"
    names = tuple(sorted(folder.name for folder in (root / "train").iterdir()))
    assert len(names) == 2
    for file in (root / "boxes").iterdir():
        lines = file.read_text().splitlines()
        pictures = {path.name for path in (root / "train").rglob("*.JPEG")}
        file.write_text("\n".join(line for line in lines if line.split()[0] in pictures))
    settings = {"boxes": root / "boxes", "root": root / "train", "resolution": 64}
    (run,) = kdcam.localize(network(names, 32, tmp_path / "net"), settings=settings, device="cpu")
    assert run.report.images == 20
    lines = read_boxes(root / "boxes")
    found = named_pictures(lines, root=root / "train", label_names=names, image_size=32)
    x0, y0, x1, y1 = lines[0].corners
    assert found.boxes.boxes[0, 0].tolist() == [x0 / 2, y0 / 2, (x1 + 1) / 2, (y1 + 1) / 2]
    # At Tiny-ImageNet's own 64 pixels the whole pixels are the file's numbers.
    whole = whole_pixels(found.boxes.boxes.numpy(), 32, 64)
    assert [tuple(box) for box in whole[:, 0].tolist()] == [line.corners for line in lines]


def test_tiny_imagenets_annotations_are_read(tmp_path: Path) -> None:
    unpack("tiny-imagenet32-100.tar.xz", tmp_path, below="train/", most=1, folders=1)
    lines = read_boxes(tmp_path / "tiny-imagenet32-100" / "val_annotations.txt")
    assert len(lines) == 5000
    assert len({line.class_name for line in lines}) == 100
    assert all(0 <= corner <= 63 for line in lines for corner in line.corners)
