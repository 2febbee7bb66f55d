"""All readers of files that are tried with damage, each with whole documents and with what is right of a value."""

import csv
import gzip
import io
import json
import math
import tempfile
import tomllib
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from mutated_bytes import mutations
from PIL import Image, features

from kdcam.data.batches.decoding import FORMATS, open_picture
from kdcam.data.box_files import read_boxes
from kdcam.data.label_noise import check_labels_file, read_matrix
from kdcam.data.object_boxes import picture_frame
from kdcam.data.sources.image_labels import read_label_table
from kdcam.data.sources.mnist import read_idx
from kdcam.data.sources.omniglot import list_characters, read_ink
from kdcam.data.sources.yolo_labels import class_rows, read_names
from kdcam.data.splits.class_split import read_class_parts
from kdcam.data.verification_pairs import numbered_lines as read_pair_lines
from kdcam.errors import KdcamError
from kdcam.files.csv_files import parse_csv
from kdcam.files.json_files import parse_json, read_json
from kdcam.files.npy_files import open_npy
from kdcam.files.text_files import decode_text
from kdcam.files.toml_files import parse_toml, toml_value
from kdcam.files.yaml_files import read_yaml
from kdcam.models.weights.foreign_checkpoints import read_foreign
from kdcam.models.weights.safetensors_files import read_tensors, tensor_bytes
from kdcam.recipe.train_recipe import load_recipe
from kdcam.runs.checkpoint import ResumeState, load_resume, save_resume
from kdcam.runs.run_files import METRICS_FILE, read_metrics


class Reader(NamedTuple):
    """A reader, and what it is tried with."""

    documents: Sequence[bytes]  # whole ones, which are damaged
    name: str  # of the file that the bytes are written to
    read: Callable[[Path], Any]  # raises AssertionError for a value that is not right
    most_lines: int = 1  # of a refusal


class Counts(NamedTuple):
    """What came out."""

    inputs: int
    refused: int
    read: int
    unexpected: tuple[str, ...]  # errors of other types, and values that are not right


def try_reader(reader: Reader, folder: Path, *, count: int, seed: int) -> Counts:
    """Return what a reader makes of ``count`` damaged documents, each written to a file in ``folder``."""
    file = folder / reader.name
    file.parent.mkdir(exist_ok=True)
    refused, read, unexpected = 0, 0, []
    for number, data in enumerate(mutations(reader.documents, count=count, seed=seed)):
        file.write_bytes(data)
        try:
            reader.read(file)
        except KdcamError as error:
            refused += 1
            if not _is_short(str(error), reader.most_lines):
                unexpected.append(
                    f"input {number}: a refusal of {len(str(error))} characters: {str(error)[:200]}"
                )
        except Exception as error:
            unexpected.append(f"input {number}: {type(error).__name__}: {str(error)[:200]}")
        else:
            read += 1
    return Counts(count, refused, read, tuple(unexpected))


def _is_short(text: str, most_lines: int) -> bool:
    lines = text.split("\n")
    return len(lines) <= most_lines and max(map(len, lines)) < 2_000 and "\r" not in text and "\0" not in text


def _text(path: Path) -> str:
    return decode_text(path.read_bytes(), error=KdcamError, place="x")


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, where NaN equals itself."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)


def _toml(path: Path) -> None:
    text = _text(path)
    assert _same(parse_toml(text, error=KdcamError, place="x"), tomllib.loads(text))


def _json(path: Path) -> None:
    text = _text(path)
    value = parse_json(text, error=KdcamError, place="x")
    assert _same(value, json.loads(text))
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


def _csv(path: Path) -> None:
    text = _text(path)
    rows = [row.cells for row in parse_csv(text, error=KdcamError, place="x")]
    expected = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    assert rows == [cells for cells in expected if any(cell.strip() for cell in cells)]


def _yaml(path: Path) -> None:
    waiting = [read_yaml(path, error=KdcamError)]
    while waiting:
        value = waiting.pop()
        assert value is None or isinstance(value, str | list | dict)
        waiting += (
            [*value.keys(), *value.values()]
            if isinstance(value, dict)
            else value
            if isinstance(value, list)
            else []
        )


def _recipe(path: Path) -> None:
    json.dumps(load_recipe(path).model_dump(mode="json"), ensure_ascii=False).encode()


def _setting(path: Path) -> None:
    text = path.read_bytes().decode(errors="surrogateescape")  # as an argument comes
    json.dumps(toml_value(text, error=KdcamError, place="x"), default=str, ensure_ascii=False).encode()


def _labels(path: Path) -> None:
    table = read_label_table(path, separator=";")
    assert table.entries
    for entry in table.entries:
        "".join([entry.image, *entry.labels]).encode()


def _names(path: Path) -> None:
    names = read_names(path)
    assert names
    assert len(set(names)) == len(names)
    "".join(names).encode()


def _matrix(path: Path) -> None:
    matrix = read_matrix(path, 2)
    assert matrix.shape == (2, 2)
    assert bool(((matrix >= 0) & (matrix <= 1)).all())


def _boxes(path: Path) -> None:
    for box in read_boxes(path):
        assert all(map(math.isfinite, box.edges))


def _metrics(path: Path) -> None:
    assert all(isinstance(record["epoch"], int) for record in read_metrics(path.parent))


def _npy(path: Path) -> None:
    array = open_npy(path, error=KdcamError)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of a shape such as (05,)
        np.testing.assert_array_equal(array, np.load(io.BytesIO(path.read_bytes()), allow_pickle=False))


def _safetensors(path: Path) -> None:
    tensors = read_tensors(path)
    assert tensors.keys() == safetensors.torch.load(path.read_bytes()).keys()


def _idx(path: Path) -> None:
    data = path.read_bytes()
    assert _idx_bytes(read_idx(path).numpy()) == (gzip.decompress(data) if path.suffix == ".gz" else data)


def _idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + sizes + array.tobytes()


def _foreign(path: Path) -> None:
    assert all(isinstance(tensor, torch.Tensor) for tensor in read_foreign(path).tensors.values())


def _resume(path: Path) -> None:
    try:
        found = load_resume(path.parents[1])
    except KdcamError as error:
        assert str(error).endswith("start over with --resume never")
        raise
    assert found is not None
    assert found.record == _STATE.record
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in _STATE.tensors.items())


def _picture(path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of tags that say nothing of the pixels
            picture_frame(path)
            assert open_picture(path).mode in ("L", "RGB")
    except KdcamError as error:
        assert str(error).startswith(f"{path}: ")
        raise


def _omniglot(path: Path) -> None:
    for character in list_characters(path):
        for drawing in character.drawings:
            ink = read_ink(drawing, 28)
            assert ink.shape == (1, 28, 28)


def _document(value: Any) -> bytes:
    return json.dumps(value).encode()


_RECIPE = b"""\
epochs = 2
batch_size = 16
[data]
name = "digits"
augment = ["crop"]
[model]
name = "kdcam:resnet8_s2"
[[loss]]
name = "cross_entropy"
[[loss]]
name = "kd"
weight = 0.5
[optimizer]
name = "sgd"
lr = 0.05
[teacher]
checkpoint = "runs/teacher"
"""
_TABLE = b'image,labels,split\na.jpg,sea;people,train\nb.jpg,,val\n"c, d.jpg","sea""s",test\n'
_JSON = (
    _document({"a.jpg": ["sea", "people"], "b.jpg": [], "ü.jpg": ["Bär"]}),
    _document([{"image": "a.jpg", "labels": ["sea"], "split": "train"}, {"image": "b.jpg", "labels": []}]),
    '{"name": "Bär", "numbers": [1, -2.5, 1e10, true, null], "table": {"a": {"b": []}}}'.encode(),
)
_YAML = (
    b"path: ../x\ntrain: images/train\nnc: 2\nnames:\n  0: ant\n  1: bee\n",
    b"names: [ant, 'bee', \"c\\u00e4t\", 2001-12-14, !!int 3]\ndate: 2001-12-14t21:59:43.10-05:00\n",
    b"base: &base\n  - ant\n  - bee\nnames: *base\nnote: |\n  two\n  lines\n",
)


def _written(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _torch_file(*, zipped: bool) -> bytes:
    content = {"state_dict": {"a": torch.ones(3), "b": torch.zeros(2, 2)}, "epoch": 3}
    return _written(lambda file: torch.save(content, file, _use_new_zipfile_serialization=zipped))


def _picture_file(kind: str, size: tuple[int, int] = (32, 24), mode: str = "RGB") -> bytes:
    picture = Image.linear_gradient("L").resize(size).convert(mode)
    return _written(lambda file: picture.save(file, kind, **({"lossless": True} if kind == "WEBP" else {})))


def _archive(packing: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packing) as archive:
        for character in (1, 2):
            for number in (1, 2):
                drawing = _picture_file("PNG", (12 + character, 12 + number), "1")
                archive.writestr(f"set/Latin/character0{character}/0{number}.png", drawing)
    return file.getvalue()


def _state_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_resume(Path(folder), _STATE)
        return (Path(folder) / "resume" / "state.safetensors").read_bytes()


_TENSORS = {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.ones(3, dtype=torch.float16)}
_STATE = ResumeState(_TENSORS, {"position": {"__pairs__": [["epoch", 2]]}, "scaler": {"__pairs__": []}})
_ARRAYS = (
    np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3),
    np.arange(35) % 3,
    np.linspace(-1, 1, 12).astype(np.float16).reshape(2, 6),
    np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    np.arange(6, dtype=">i4"),
    np.array([True, False, True]),
    np.array(3.5),
)
_IDX = (
    _idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 2, 2)),
    _idx_bytes(np.arange(10, dtype=np.uint8)),
)
_KINDS = [kind for kind in FORMATS if kind != "AVIF" or features.check("avif")]  # older Pillows have none

READERS: Mapping[str, Reader] = {
    "toml": Reader(
        (_RECIPE, b'a = [1, 2.5, "x", 2001-12-14, {b = true}]\n"\\u00e4".b = \'c\'\n'), "a.toml", _toml
    ),
    "recipe": Reader((_RECIPE,), "a.toml", _recipe, most_lines=1_000),  # a problem a line
    "--set value": Reader(
        (b"0.5", b'["crop", "flip"]', b"runs/teacher", b"{a = 1}", b"2001-12-14"), "a", _setting
    ),
    "json": Reader(_JSON, "a.json", _json),
    "record": Reader((_JSON[0], _JSON[2]), "a.json", read_json),
    "metrics.jsonl": Reader(
        (b'{"epoch": 1, "val": {"acc1": 0.5}}\n{"epoch": 2, "val": {}}\n',), METRICS_FILE, _metrics
    ),
    "csv": Reader((_TABLE, b'a, b\r\n1, "2, 3"\r\n'), "a.csv", _csv),
    "labels.csv": Reader((_TABLE, b"image,sea,people\na.jpg,1,0\nb.jpg,0.0,1.0\n"), "a.csv", _labels),
    "labels.csv.gz": Reader((gzip.compress(_TABLE, mtime=0),), "a.csv.gz", _labels),
    "labels.json": Reader(_JSON[:2], "a.json", _labels),
    "noise labels": Reader(
        (b"index,clean,worse\n0,cat,dog\n1,dog,dog\n",),
        "a.csv",
        lambda path: check_labels_file(path, "worse"),
    ),
    "noise matrix": Reader((b"0.5,0.5\n0.25,0.75\n", b"1,0\n0,1\n"), "a.csv", _matrix),
    "class split": Reader(
        (b'class,part\ncat,base\ndog,novel\n" a",validation\n',), "a.csv", read_class_parts
    ),
    "boxes.csv": Reader((b"path,x0,y0,x1,y1,class\na/b.png,0,1,20.5,30,cat\n",), "a.csv", _boxes),
    "boxes.txt": Reader((b"val_2.JPEG\tn9\t4\t0\t60\t55\n",), "a.txt", _boxes),
    "pair lines": Reader((b"10 300\nAl_Roe 1 2\nAl_Roe 1 Bo 3\n",), "a.txt", read_pair_lines),
    "yaml": Reader(_YAML, "a.yaml", _yaml),
    "yolo names": Reader(_YAML, "data.yaml", _names),
    "yolo classes.txt": Reader((b"ant\nbee\nc\xc3\xa4t\n",), "classes.txt", _names),
    "yolo labels": Reader(
        (b"0 0.5 0.5 0.2 0.1\n1 0.5 0.5 0.2 0.1 0.9\n", b"1 0.1 0.1 0.2 0.1 0.2 0.2\n"),
        "a.txt",
        lambda path: class_rows([path], 2),
    ),
    "npy": Reader(
        [_written(lambda file, array=array: np.save(file, array)) for array in _ARRAYS], "a.npy", _npy
    ),
    "safetensors": Reader(
        (
            tensor_bytes(_TENSORS, {"format": "pt"}),
            safetensors.torch.save(_TENSORS, {"format": "pt"}),
            safetensors.torch.save({}),
        ),
        "a.safetensors",
        _safetensors,
    ),
    "resume state": Reader((_state_file(),), "resume/state.safetensors", _resume),
    "pth": Reader((_torch_file(zipped=True), _torch_file(zipped=False)), "a.pth", _foreign),
    "idx": Reader(_IDX, "a", _idx),
    "idx.gz": Reader([gzip.compress(data, mtime=0) for data in _IDX], "a.gz", _idx),
    "omniglot.zip": Reader(
        (_archive(zipfile.ZIP_STORED), _archive(zipfile.ZIP_DEFLATED)), "a.zip", _omniglot
    ),
    **{kind: Reader((_picture_file(kind),), "a", _picture) for kind in _KINDS},
}
"""By what they read. A reader's documents are small, so that thousands of damaged forms take a few seconds."""
