"""Every reader of files with many damaged documents: a refusal in kdcam's words, or a right value."""

from pathlib import Path

import pytest
from damaged_readers import READERS, try_reader
from long_tests import LONG
from mutated_bytes import mutations

COUNT = 2_000 if LONG else 200


@pytest.mark.long
@pytest.mark.parametrize("name", READERS)
def test_damage_is_refused_or_read_right(name: str, tmp_path: Path) -> None:
    counts = try_reader(READERS[name], tmp_path, count=COUNT, seed=16)
    assert counts.unexpected == ()
    assert counts.refused > COUNT / 20
    assert counts.refused + counts.read == counts.inputs


@pytest.mark.parametrize("name", READERS)
def test_whole_documents_are_read(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    (tmp_path / reader.name).parent.mkdir(exist_ok=True)
    for document in reader.documents:
        (tmp_path / reader.name).write_bytes(document)
        reader.read(tmp_path / reader.name)


def test_damage_is_the_seeds_alone() -> None:
    documents = [b"a = 1\n", b"b = 2\n"]
    first, again = (list(mutations(documents, count=500, seed=3)) for _ in range(2))
    assert first == again
    assert len(set(first)) > 300
    assert first != list(mutations(documents, count=500, seed=4))
