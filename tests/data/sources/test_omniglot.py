"""Omniglot from folders and from zip files, its alphabets kept together."""

import shutil
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from omniglot_files import draw, draw_alphabet, zip_up
from pydantic import ValidationError

from kdcam.data.common_config import ClassSplitConfig
from kdcam.data.datasets import describe_data, load_data
from kdcam.data.novel_class_images import novel_classes
from kdcam.data.source_configs import OmniglotConfig
from kdcam.data.sources.omniglot import list_characters, read_ink
from kdcam.errors import DataError
from kdcam.runtime.progress import Silent

SHARED = Path(__file__).parents[3] / "../shared/data/omniglot"
needs_shared = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"Omniglot is not in {SHARED}"),
]


@pytest.fixture
def sets(tmp_path):
    """Return a folder with two sets, of which Greek is in both."""
    for name, alphabets in (("set1", {"Greek": 2, "Latin": 3}), ("set2", {"Greek": 2, "Korean": 4})):
        for alphabet, characters in alphabets.items():
            draw_alphabet(tmp_path / "sets" / name / alphabet, characters)
    return tmp_path / "sets"


def names_of(root):
    return [character.name for character in list_characters(root)]


def test_an_alphabet_in_two_sets_is_read_once(sets):
    names = names_of(sets)
    assert names == [
        *(f"Greek/character0{number}" for number in (1, 2)),
        *(f"Korean/character0{number}" for number in (1, 2, 3, 4)),
        *(f"Latin/character0{number}" for number in (1, 2, 3)),
    ]
    assert [len(character.drawings) for character in list_characters(sets)] == [4] * 9


def test_zip_files_folders_and_both_at_once_are_the_same(sets, tmp_path):
    archives = tmp_path / "archives"
    archives.mkdir()
    for name in ("set1", "set2"):
        zip_up(sets / name, archives / f"{name}.zip")
    (archives / "README.txt").write_text("not a drawing")
    expected = load_data(OmniglotConfig(root=sets))
    zipped = load_data(OmniglotConfig(root=archives))
    assert zipped.label_names == expected.label_names
    assert torch.equal(zipped.train.images.pixels, expected.train.images.pixels)
    assert torch.equal(zipped.train.targets, expected.train.targets)
    (sets / "set1").rename(archives / "set1")
    assert names_of(archives) == list(expected.label_names)
    assert names_of(archives / "set1.zip") == names_of(archives / "set1")
    assert names_of(archives / "set1" / "Latin") == [f"Latin/character0{number}" for number in (1, 2, 3)]


def test_ink_is_one_on_zero(sets):
    parts = load_data(OmniglotConfig(root=sets, image_size=105, test=0.0, validation=0.0))
    first = parts.train.images.pixels[0, 0]
    assert parts.channels == 1
    assert set(first.unique().tolist()) == {0, 255}
    assert torch.equal((first > 0).all(1).nonzero().flatten(), torch.arange(10, 20))
    small = load_data(OmniglotConfig(root=sets, test=0.0, validation=0.0)).train.images.pixels[0, 0]
    assert small.shape == (28, 28)
    assert float(small.float().mean()) == pytest.approx(float(first.float().mean()), rel=0.02)  # antialiased


def test_is_described_as_it_is_read(sets):
    for split in (None, ClassSplitConfig(novel=1), ClassSplitConfig(novel=1, validation=1)):
        config = OmniglotConfig(root=sets, validation=0.25, test=0.25, class_split=split)
        parts, summary = load_data(config), describe_data(config)
        assert (summary.label_names, summary.channels) == (parts.label_names, 1)
        assert summary.train_images == len(parts.train)
        assert "9 characters of 3 alphabets (Greek, Korean, Latin)" in summary.note


def test_a_split_never_cuts_an_alphabet(sets):
    for seed in range(4):
        split = ClassSplitConfig(novel=1, seed=seed)
        config = OmniglotConfig(root=sets, class_split=split)
        novel, names = novel_classes(config, progress=Silent())
        base = {name.partition("/")[0] for name in load_data(config).label_names}
        assert len(base) == 2
        assert {name.partition("/")[0] for name in names}.isdisjoint(base)
        assert len(novel) == 4 * len(names)  # all drawings, those held out elsewhere too


def test_a_file_names_alphabets(sets, tmp_path):
    file = tmp_path / "split.csv"
    file.write_text("class,part\nGreek,novel\nLatin,base\nKorean,base\n")
    config = OmniglotConfig(root=sets, class_split=ClassSplitConfig(file=file))
    assert len(load_data(config).label_names) == 7
    file.write_text("class,part\nGreek/character01,novel\nGreek/character02,base\nLatin,base\nKorean,base\n")
    with pytest.raises(DataError, match=r"'Greek' lies in novel, base; put all of its classes into one part"):
        describe_data(config)


def test_two_alphabets_of_one_name_are_refused(sets):
    (sets / "set2" / "Greek" / "character02" / "04.png").unlink()
    with pytest.raises(DataError, match=r"set2/Greek: holds other drawings than .*set1/Greek"):
        list_characters(sets)


def test_what_is_no_omniglot_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none is not there; name a folder or a \.zip file"):
        list_characters(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no alphabet of Omniglot"):
        list_characters(tmp_path)
    (tmp_path / "broken.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"broken\.zip: cannot be read as a zip file"):
        list_characters(tmp_path)


def test_equal_names_of_other_drawings_are_refused(sets, tmp_path):
    draw(sets / "set2" / "Greek" / "character02" / "04.png", 70)
    with pytest.raises(DataError, match=r"set2/Greek: holds other drawings than .*set1/Greek"):
        list_characters(sets)
    zip_up(sets / "set1", tmp_path / "archives.zip").rename(sets / "set1.zip")
    shutil.rmtree(sets / "set1")
    with pytest.raises(DataError, match=r"set2/Greek: holds other drawings than .*set1\.zip.*Greek"):
        list_characters(sets)


def test_strokes_beside_the_drawings_are_passed_over(sets, tmp_path):
    names = names_of(sets)
    for alphabet in ("Greek", "Latin"):
        stroke = tmp_path / "strokes" / alphabet / "character01" / "01.txt"
        stroke.parent.mkdir(parents=True)
        stroke.write_text("START\n1,2,3\n")
    zip_up(tmp_path / "strokes", sets / "strokes.zip")
    assert names_of(sets) == names
    assert [len(character.drawings) for character in list_characters(sets)] == [4] * 9


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_stands_twice_in_a_zip_file_is_one_drawing(sets, tmp_path):
    file = zip_up(sets / "set1" / "Latin", tmp_path / "Latin.zip")
    with zipfile.ZipFile(file, "a") as archive:
        archive.write(sets / "set1/Latin/character03/01.png", "Latin/character01/01.png")
    assert [len(character.drawings) for character in list_characters(file)] == [4] * 3
    first = load_data(OmniglotConfig(root=file, test=0.0, validation=0.0)).train.images.pixels[0]
    assert torch.equal(first, read_ink(sets / "set1/Latin/character03/01.png", 28))


def changed_zip(folder, file, change):
    """Zip a folder, packed, and change the bytes of the file."""
    zip_up(folder, file, zipfile.ZIP_DEFLATED)
    data = bytearray(file.read_bytes())
    change(data)
    file.write_bytes(data)
    return file


def damage(data):
    start = data.find(b"Latin/character01/01.png") + len("Latin/character01/01.png")
    data[start : start + 2] = b"\xff\xff"


def encrypt(data):
    for signature, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        position = -1
        while (position := data.find(signature, position + 1)) >= 0:
            data[position + place] |= 1


def pack_otherwise(data):
    for signature, place in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        position = -1
        while (position := data.find(signature, position + 1)) >= 0:
            data[position + place] = 99


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (damage, r"while decompressing"),
        (encrypt, r"is encrypted"),
        (pack_otherwise, r"compression method is not supported"),
    ],
)
def test_zip_files_that_cannot_be_unpacked(sets, tmp_path, change, said):
    file = changed_zip(sets / "set1" / "Latin", tmp_path / "Latin.zip", change)
    with pytest.raises(DataError, match=rf"character01/01\.png: cannot be read as a picture \(.*{said}"):
        load_data(OmniglotConfig(root=file))


def test_a_picture_too_large_to_be_one_is_named(sets):
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 20) + b"IDAT" + b"\0" * 24
    (sets / "set1/Latin/character02/03.png").write_bytes(data)
    with pytest.raises(DataError, match=r"03\.png: 20000 x 20000 pixels, 400 million.*; fetch the set again"):
        load_data(OmniglotConfig(root=sets))


def test_a_broken_drawing_is_named(sets):
    (sets / "set1" / "Latin" / "character02" / "03.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"Latin/character02/03\.png: not an image .*; fetch the set again"):
        load_data(OmniglotConfig(root=sets))


def test_a_member_that_unpacks_to_more_than_a_drawing_is_refused(sets, tmp_path):
    (sets / "set1/Latin/character02/03.png").write_bytes(b"\0" * 30_000_000)
    zip_up(sets / "set1" / "Latin", tmp_path / "Latin.zip", zipfile.ZIP_DEFLATED)
    assert (tmp_path / "Latin.zip").stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(DataError, match=r"03\.png: cannot be read as a picture \(it has more than 10 MB"):
        load_data(OmniglotConfig(root=tmp_path / "Latin.zip"))
    assert tracemalloc.get_traced_memory()[1] < 25_000_000
    tracemalloc.stop()


def test_sizes_above_the_drawings_own_are_refused():
    with pytest.raises(ValidationError, match=r"less than or equal to 105"):
        OmniglotConfig(root="x", image_size=128)


class TestSharedData:
    pytestmark = needs_shared

    def test_the_small_sets_hold_eight_alphabets(self):
        characters = list_characters(SHARED)
        assert len(characters) == 242  # 136 + 156, less the 24 Greek and 26 Latin ones in both
        assert {len(character.drawings) for character in characters} == {20}
        assert len({character.name.partition("/")[0] for character in characters}) == 8
