import io
from pathlib import Path

import numpy as np
import pytest

from kdcam.errors import DataError
from kdcam.files.npy_files import open_npy

ARRAYS = {
    "bytes": np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3),
    "labels": np.arange(35) % 3,
    "half": np.linspace(-1, 1, 12).astype(np.float16).reshape(2, 6),
    "columns": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "big-endian": np.arange(6, dtype=">i4"),
    "truth": np.array([True, False, True]),
    "scalar": np.array(3.5),
}


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def with_header(text: str, numbers: bytes = b"\0" * 8, *, version: int = 1) -> bytes:
    header = text.encode("latin-1")
    width = 2 if version == 1 else 4
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(width, "little") + header + numbers


def opened(tmp_path: Path, data: bytes) -> np.ndarray:
    file = tmp_path / "a.npy"
    file.write_bytes(data)
    return open_npy(file, error=DataError)


@pytest.mark.parametrize("name", ARRAYS)
def test_reads_what_numpy_saves(tmp_path: Path, name: str) -> None:
    array = opened(tmp_path, saved(ARRAYS[name]))
    assert array.dtype == ARRAYS[name].dtype
    np.testing.assert_array_equal(array, ARRAYS[name])


def test_reads_the_later_versions_and_any_order_of_entries(tmp_path: Path) -> None:
    text = "{'shape': (4,), 'descr': '<i2', 'fortran_order': False}\n"
    numbers = np.array([1, 2, 3, 4], "<i2").tobytes()
    for version in (1, 2, 3):
        assert opened(tmp_path, with_header(text, numbers, version=version)).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begins with b''"),
        (b"PK\x03\x04" + b"\0" * 100, "begins with b'PK"),  # np.load would open it as an .npz
        (saved(np.array([{"a": 1}], dtype=object)), "not one of plain numbers"),
        (saved(np.zeros(2, dtype=[("a", "<i4")])), "not one of plain numbers"),
        (saved(np.array(["text"])), "not one of plain numbers"),
        (saved(np.zeros((0, 3))), r"shape \(0, 3\) is empty"),
        (saved(np.arange(9))[:-1], "holds 71 bytes of numbers where its header, int64 \\(9,\\), says 72"),
        (saved(np.arange(9)) + b"\0", "holds 73 bytes"),
        (saved(np.arange(9))[:40], "ends within its header"),
        (with_header("{'descr': '<i4', 'fortran_order': False, 'shape': (-2,), }"), "header is damaged"),
        (with_header("{'descr': '<i4', 'fortran_order': False, 'shape': (2.0,), }"), "header is damaged"),
        (with_header("{'descr': '<i3', 'fortran_order': False, 'shape': (2,), }"), "type '<i3'"),
        (
            with_header("{'descr': '<i4', 'fortran_order': False, 'shape': (" + "9" * 20 + ",), }"),
            "shape \\(9999",
        ),
        (with_header("{'descr': '<i4', 'fortran_order': False, 'shape': (1,,2), }"), "shape \\(1,,2\\)"),
        (with_header("{'descr': '<i4', 'fortran_order': False, 'shape': " + "(" * 900 + "}"), "damaged"),
        (with_header("{'descr': '<i4', 'fortran_order': False, 'shape': (2)}"), "shape \\(2\\)"),
        (with_header(" " * 100_000, version=2), "header has 100,000 bytes, at most 10,000 are read"),
    ],
)
def test_everything_else_is_refused_in_one_sentence(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=rf"a.npy: cannot be read as an .npy array \(.*{reason}") as caught:
        opened(tmp_path, data)
    assert str(caught.value).endswith("; fetch the file again")
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for name in (".", "gone.npy", "n" * 300):
        with pytest.raises(DataError, match="there is no such file"):
            open_npy(tmp_path / name, error=DataError)
