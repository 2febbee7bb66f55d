import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load, load_file, save

from kdcam.errors import CheckpointError
from kdcam.files.sealed_tensors import SEAL, check_tensors_file, sealed
from kdcam.models.weights.safetensors_files import read_tensors, read_tensors_file, tensor_bytes

TENSORS = {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.ones(3, dtype=torch.float16)}
METADATA = {"format": "pt", "note": "grüße", "a": "1"}


def plain(header: object, numbers: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


def entry(begin: int, end: int, *, shape: object = (1,), dtype: object = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def check(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    check_tensors_file(file, error=CheckpointError, way_out="make it again")


def test_a_sealed_file_holds_what_an_unsealed_one_does(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(sealed(save(TENSORS, METADATA)))
    for found in (load_file(file), read_tensors(file), load(file.read_bytes())):
        assert found.keys() == TENSORS.keys()
        assert all(torch.equal(found[name], value) for name, value in TENSORS.items())
    assert read_tensors_file(file)[1] == METADATA
    with safetensors.safe_open(file, framework="pt") as opened:
        assert opened.metadata().keys() == {*METADATA, SEAL}


def test_the_bytes_are_the_same_in_every_process() -> None:
    code = (
        "import hashlib, torch; from kdcam.models.weights.safetensors_files import tensor_bytes;"
        "data = tensor_bytes({'a': torch.ones(2), 'b': torch.zeros(3)}, {c: c for c in 'qwertyuiop'});"
        "print(hashlib.sha256(data).hexdigest())"
    )
    printed = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(printed) == 1


def test_each_flipped_bit_is_found_or_changes_nothing(tmp_path: Path) -> None:
    file, data = tmp_path / "a.safetensors", tensor_bytes(TENSORS, {"format": "pt"})
    found, harmless = 0, 0
    for place in range(len(data)):
        for bit in range(8):
            file.write_bytes(data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
            try:
                tensors = read_tensors(file)
            except CheckpointError:
                found += 1
                continue
            # A space of the header that is another white space now, or the name of the checksum's entry.
            harmless += 1
            assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    assert harmless < 8 * len(SEAL) + 8
    assert found == 8 * len(data) - harmless


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "less than 8 bytes"),
        (b"\0\0\0\0\0\0\0\x80", "a header of 9,223,372,036,854,775,808 bytes and has 8 in all"),
        ((33_000_000).to_bytes(8, "little") + b" " * 33_000_000, "header has 33,000,000 bytes, at most"),
        (plain(b"no json"), "its header is no JSON"),
        (plain(b"\xff\xfe"), "its header is no JSON"),
        (plain(b'{"a": ' + b"9" * 5_000 + b"}"), "its header is no JSON"),
        (plain(b"[" * 100_000), "too many brackets"),
        (plain([1]), "its header is no table"),
        (plain({"__metadata__": {"a": 1}}), "its metadata are no texts"),
        (plain({"a": 5}), "'a' is not described by data_offsets, dtype, shape"),
        (plain({"a": entry(0, 4, dtype="F99")}, b"\0" * 4), "type F99, which kdcam does not read"),
        (plain({"a": entry(0, 4, dtype=[])}, b"\0" * 4), "which kdcam does not read"),
        (plain({"a": entry(0, 4, shape=(-1, -1))}, b"\0" * 4), "shape or place of 'a' is damaged"),
        (plain({"a": entry(0, 4, shape=(True,))}, b"\0" * 4), "shape or place of 'a' is damaged"),
        (plain({"a": entry(0, 4, shape=(2**62, 2**62))}, b"\0" * 4), "where its shape wants others"),
        (plain({"a": entry(4, 0)}, b"\0" * 4), "where its shape wants others"),
        (plain({"a": entry(0, 4), "b": entry(0, 4)}, b"\0" * 4), "'b' begins at 0, where 4 is wanted"),
        (plain({"a": entry(4, 8)}, b"\0" * 8), "'a' begins at 4, where 0 is wanted"),
        (plain({"a": entry(0, 4)}, b"\0" * 8), "take 4 bytes, and it has 8"),
    ],
)
def test_what_is_damaged_is_said_in_one_sentence(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(
        CheckpointError, match=rf"a\.safetensors: not a whole safetensors file \(.*{reason}"
    ) as caught:
        check(tmp_path / "a.safetensors", data)
    assert str(caught.value).endswith("; make it again")
    assert "\n" not in str(caught.value)


def test_what_is_no_file_cannot_be_read(tmp_path: Path) -> None:
    for name in (".", "gone", "n" * 300):
        with pytest.raises(CheckpointError, match="cannot be read"):
            check_tensors_file(tmp_path / name, error=CheckpointError, way_out="make it again")
