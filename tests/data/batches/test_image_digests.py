import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from kdcam.data.batches.image_digests import ImagesDigest, images_digest
from kdcam.data.batches.resident import ResidentImages
from kdcam.data.batches.streaming import FilePictures, StreamImages
from kdcam.errors import DataError


def test_bytes_and_order_of_images_in_memory_decide() -> None:
    pixels = torch.randint(
        0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    digest = images_digest(ResidentImages(pixels, image_size=8))
    assert images_digest(ResidentImages(pixels.clone(), image_size=8)) == digest
    assert images_digest(ResidentImages(pixels.flip(0), image_size=8)) != digest
    changed = pixels.clone()
    changed[3, 1, 2, 2] ^= 1
    assert images_digest(ResidentImages(changed, image_size=8)) != digest


def streamed(paths: list[Path], order: list[int] | None = None) -> StreamImages:
    kept = None if order is None else torch.tensor(order)
    return StreamImages(FilePictures(paths), image_size=72, channels=3, order=kept)


def paint(folder: Path) -> list[Path]:
    paths = [folder / name / "1.png" for name in ("cat", "dog", "eel")]
    for path in paths:
        path.parent.mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(path)
    return paths


def test_files_that_are_copied_or_touched_stay_the_same(tmp_path: Path) -> None:
    paths = paint(tmp_path / "here")
    digest = images_digest(streamed(paths))
    assert digest.of == "files"
    assert images_digest(streamed(paint(tmp_path / "there" / "below"))) == digest
    for path in paths:
        os.utime(path, ns=(10**18, 10**18))
    assert images_digest(streamed(paths)) == digest


def test_bytes_paths_and_order_of_files_decide(tmp_path: Path) -> None:
    paths = paint(tmp_path)
    digest = images_digest(streamed(paths))
    assert images_digest(streamed(paths, [1, 0, 2])) != digest
    assert images_digest(streamed(paths, [0, 1])) != digest
    before, times = paths[0].read_bytes(), paths[0].stat()
    paths[0].write_bytes(before[:-1] + b"x")
    os.utime(paths[0], ns=(times.st_atime_ns, times.st_mtime_ns))  # of the same size and time
    assert images_digest(streamed(paths)) != digest
    paths[0].write_bytes(before)
    assert images_digest(streamed(paths)) == digest
    renamed = paths[0].rename(paths[0].with_name("2.png"))
    assert images_digest(streamed([renamed, *paths[1:]])) != digest


def test_files_that_are_held_out_do_not_count(tmp_path: Path) -> None:
    paths = paint(tmp_path)
    digest = images_digest(streamed(paths, [0, 2]))
    paths[1].unlink()
    assert images_digest(streamed(paths, [0, 2])) == digest


def test_names_need_not_be_utf_8(tmp_path: Path) -> None:
    paths = paint(tmp_path)
    try:
        odd = paths[0].rename(Path(os.fsdecode(os.fsencode(paths[0].parent) + b"/caf\xe9.png")))
    except OSError:
        pytest.skip("this file system takes no such name")
    assert images_digest(streamed([odd, *paths[1:]])) != images_digest(streamed(paths[1:]))


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    paths = paint(tmp_path)
    paths[1].unlink()
    with pytest.raises(
        DataError, match=r"dog/1.png: cannot be read any more \(No such file or directory\); restore the file"
    ):
        images_digest(streamed(paths))


def test_of_other_sources_spread_pictures_and_their_number_decide() -> None:
    class Painted:
        def __init__(self, count: int, last: int = 0) -> None:
            self.count, self.last = count, last

        def __len__(self) -> int:
            return self.count

        def picture(self, index: int, at_least: int | None) -> Image.Image:
            return Image.new("L", (4, 4), self.last if index == self.count - 1 else index % 200)

    def digest(source: Painted) -> ImagesDigest:
        return images_digest(StreamImages(source, image_size=72, channels=1))

    assert digest(Painted(300)) == digest(Painted(300))
    assert len({digest(one) for one in (Painted(300), Painted(299), Painted(300, last=9))}) == 3
