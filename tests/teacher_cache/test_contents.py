from pathlib import Path

import numpy as np
import pytest
import torch

from kdcam.errors import CheckpointError
from kdcam.teacher_cache.contents import (
    ArrayFile,
    Contents,
    array_files,
    open_arrays,
    read_contents,
    write_contents,
)

KEY = {"format": 1, "views": 2, "data": {"images": 3}}


def write_array(folder: Path) -> torch.Tensor:
    values = torch.arange(2 * 3 * 5).reshape(2, 3, 5).half()
    np.save(folder / "logits.npy", values.numpy())
    write_contents(folder, KEY, Contents({"logits": ((5,),)}, {}, 0))
    return values


def test_files_are_laid_out_as_numpy_saves_them(tmp_path: Path) -> None:
    write_array(tmp_path)
    [file] = array_files(tmp_path, KEY, {"logits": ((5,),)})
    assert file == ArrayFile(tmp_path / "logits.npy", (2, 3, 5))
    assert file.path.read_bytes().startswith(file.header)
    assert file.path.stat().st_size == file.size() == len(file.header) + 60
    assert file.size(1) == len(file.header) + 30


def test_what_is_written_is_read(tmp_path: Path) -> None:
    values = write_array(tmp_path)
    contents = read_contents(tmp_path, KEY)
    assert contents == Contents({"logits": ((5,),)}, {}, 0)
    [array] = open_arrays(tmp_path, "logits", contents.whole["logits"])
    assert torch.equal(array, values)


def test_a_folder_that_is_not_there_or_empty_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    assert read_contents(tmp_path, KEY) == read_contents(tmp_path / "nowhere", KEY) == Contents({}, {}, 0)


def test_a_damaged_index_is_told(tmp_path: Path) -> None:
    write_array(tmp_path)
    (tmp_path / "cache.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"cache.json: not a JSON file"):
        read_contents(tmp_path, KEY)
    (tmp_path / "cache.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"format is not set there, 1 here"):
        read_contents(tmp_path, KEY)
