from pathlib import Path

import numpy as np
import pytest
import torch

from kdcam.errors import CheckpointError
from kdcam.training.teachers.cache_folder import ArrayFile, EntryShapes, array_bytes, array_files, open_arrays

LOGITS = EntryShapes("logits", ((5,),))


def write_array(folder: Path) -> torch.Tensor:
    values = torch.arange(2 * 3 * 5).reshape(2, 3, 5).half()
    np.save(folder / "logits.npy", values.numpy())
    return values


def test_files_are_laid_out_as_numpy_saves_them(tmp_path: Path) -> None:
    write_array(tmp_path)
    [file] = array_files(tmp_path, [LOGITS], views=2, images=3)
    assert file == ArrayFile(tmp_path / "logits.npy", (2, 3, 5))
    assert file.path.read_bytes().startswith(file.header)
    assert file.path.stat().st_size == file.size() == len(file.header) + 60
    assert file.size(1) == len(file.header) + 30


def test_bytes_by_hand() -> None:
    assert array_bytes((3, 50, 4, 2, 2)) == 128 + 3 * 50 * 16 * 2
    assert array_bytes((3, 50, 4, 2, 2), 2) == 128 + 2 * 50 * 16 * 2


def test_stages_have_a_file_each(tmp_path: Path) -> None:
    entries = [LOGITS, EntryShapes("stages", ((2, 4, 4), (3, 2, 2)))]
    files = list(array_files(tmp_path, entries, views=1, images=7))
    assert [file.path.name for file in files] == ["logits.npy", "stages-0.npy", "stages-1.npy"]
    assert [file.shape for file in files] == [(1, 7, 5), (1, 7, 2, 4, 4), (1, 7, 3, 2, 2)]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    values = write_array(tmp_path)
    [array] = open_arrays(tmp_path, LOGITS, views=2, images=3)
    assert torch.equal(array, values)


@pytest.mark.parametrize("harm", ["no array", "gone", "header"])
def test_a_file_that_cannot_be_read_is_named_with_the_way_out(tmp_path: Path, harm: str) -> None:
    file = tmp_path / "logits.npy"
    if harm == "no array":
        file.write_bytes(b"\0" * 188)
    elif harm == "header":  # of the right size, so that nobody notices before it is opened
        write_array(tmp_path)
        file.write_bytes(file.read_bytes().replace(b"(2, 3, 5)", b"(9999999)"))
    with pytest.raises(
        CheckpointError,
        match=r"logits.npy: cannot be read as an .npy array \(.*\); remove it, and it is made again",
    ):
        open_arrays(tmp_path, LOGITS, views=2, images=3)


@pytest.mark.parametrize("values", [np.zeros((3, 2, 5), np.float16), np.zeros((2, 3, 5), np.int16)])
def test_a_file_of_another_shape_or_type_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "logits.npy", values)
    with pytest.raises(
        CheckpointError,
        match=r"logits.npy holds (int|float)16 \(\d, \d, 5\), expected float16 \(2, 3, 5\); remove it",
    ):
        open_arrays(tmp_path, LOGITS, views=2, images=3)
