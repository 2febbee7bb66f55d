from pathlib import Path

import numpy
import pytest
from PIL import Image

from kdcam.data.folder_facts import measure_folder, measure_machine
from kdcam.errors import DataError


def test_a_folder_is_measured_by_headers(tmp_path: Path) -> None:
    for name, count in (("a", 3), ("b", 5)):
        (tmp_path / "train" / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(numpy.zeros((40 + index, 30), dtype=numpy.uint8)).save(
                tmp_path / "train" / name / f"{index}.png"
            )
    (tmp_path / "train" / "b" / "broken.png").write_bytes(b"no picture")
    facts = measure_folder(tmp_path)
    assert facts.train_counts == (3, 6)
    assert facts.short_sides == (30,) * 8
    assert facts.is_gray
    assert not facts.has_validation
    assert len(facts.unreadable) == 1
    assert "broken.png" in facts.unreadable[0]


def test_a_folder_without_a_picture(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match="not one of 2 files"):
        measure_folder(tmp_path)


def test_this_machine_has_cores() -> None:
    assert measure_machine().cores >= 1
