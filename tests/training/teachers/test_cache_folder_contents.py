import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cached_runs import small_key

from kdcam.errors import CheckpointError
from kdcam.training.teachers.cache_folder import (
    CacheContents,
    EntryShapes,
    changed_versions,
    empty_contents,
    read_contents,
    versions_now,
    write_contents,
)

KEY = small_key(views=2, images=3)
LOGITS = EntryShapes("logits", ((5,),))
WHOLE = empty_contents()._replace(whole=(LOGITS,))


def write_array(folder: Path) -> None:
    np.save(folder / "logits.npy", torch.arange(2 * 3 * 5).reshape(2, 3, 5).half().numpy())
    write_contents(folder, KEY, WHOLE)


def rewrite(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "cache.json").read_text()) | changes
    given = {name: value for name, value in record.items() if value is not None}
    (folder / "cache.json").write_text(json.dumps(given))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_array(tmp_path)
    assert read_contents(tmp_path, KEY) == WHOLE
    stages = EntryShapes("stages", ((2, 4, 4), (3, 2, 2)))
    running = WHOLE._replace(filling=(stages, LOGITS), views_done=1)
    write_contents(tmp_path, KEY, running)
    assert read_contents(tmp_path, KEY) == running


def test_the_layout_is_the_one_of_its_format(tmp_path: Path) -> None:
    write_array(tmp_path)
    record = json.loads((tmp_path / "cache.json").read_text())
    assert list(record) == ["key", "versions", "whole", "filling", "views"]
    assert (record["key"]["format"], record["whole"], record["views"]) == (1, {"logits": [[5]]}, 0)


def test_a_folder_that_is_not_there_or_empty_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    assert read_contents(tmp_path, KEY) == read_contents(tmp_path / "nowhere", KEY) == empty_contents()


def test_an_index_that_appears_while_the_folder_is_listed_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_array(tmp_path)
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter([folder / "logits.npy"]))
    assert read_contents(tmp_path, KEY) == WHOLE


def test_other_versions_are_told(tmp_path: Path) -> None:
    write_array(tmp_path)
    assert set(versions_now()) == {"kdcam", "torch"}
    assert changed_versions(read_contents(tmp_path, KEY)) == {}
    now = versions_now()["torch"]
    rewrite(tmp_path, versions={**versions_now(), "torch": "1.0"})
    contents = read_contents(tmp_path, KEY)
    assert changed_versions(contents) == {"torch": ("1.0", now)}
    write_contents(tmp_path, KEY, contents)  # what is added later changes nothing of how it was begun
    assert changed_versions(read_contents(tmp_path, KEY)) == {"torch": ("1.0", now)}


def test_a_cache_from_before_versions_were_noted_is_read(tmp_path: Path) -> None:
    write_array(tmp_path)
    rewrite(tmp_path, versions=None)
    contents = read_contents(tmp_path, KEY)
    assert contents == CacheContents({}, whole=(LOGITS,))
    assert changed_versions(contents) == {}


DAMAGED = (
    r"teacher.cache_folder: .*cache.json is damaged \({}\); remove the folder, and the cache is made again"
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"whole": None}, r"it has no 'whole'"),
        ({"filling": None}, r"it has no 'filling'"),
        ({"views": None}, r"it has no 'views'"),
        ({"views": "two"}, r"invalid literal .*'two'"),
        ({"whole": [1]}, r"'list' object has no attribute 'items'"),
        ({"whole": {"logits": 5}}, r"'int' object is not iterable"),
        ({"versions": 3}, r"'int' object is not iterable"),
    ],
)
def test_a_damaged_index_is_told_with_the_way_out(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    write_array(tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=DAMAGED.format(reason)):
        read_contents(tmp_path, KEY)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", r"it holds no JSON object: Expecting property name.*"),
        ("[]", r"it holds no JSON object"),
    ],
)
def test_an_index_that_is_no_object_is_damaged(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "cache.json").write_text(text)
    with pytest.raises(CheckpointError, match=DAMAGED.format(reason)):
        read_contents(tmp_path, KEY)


def test_an_index_without_a_key_is_of_another_cache(tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"format is not set there, 1 here"):
        read_contents(tmp_path, KEY)


def refuse(*_: Any, **__: Any) -> Any:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("call", ["stat", "iterdir", "open"])
def test_a_folder_that_may_not_be_read_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    write_array(tmp_path)
    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(
        CheckpointError,
        match=r"^teacher.cache_folder: .* cannot be read \(Permission denied\); make it readable, or name another",
    ):
        read_contents(tmp_path, KEY)


def test_an_index_that_cannot_be_written_is_told_without_a_word_of_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(
        CheckpointError,
        match=r"^teacher.cache_folder: .*cache.json cannot be written \(Permission denied\); free some space, name",
    ) as raised:
        write_contents(tmp_path, KEY, WHOLE)
    assert "--output" not in str(raised.value)
