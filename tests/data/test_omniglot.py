"""Omniglot from folders and from zip files, its alphabets kept together, its official one-shot runs."""

import zipfile
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from kdcam.data.common_config import ClassSplitConfig
from kdcam.data.config import OmniglotConfig
from kdcam.data.datasets import describe_data, load_data
from kdcam.data.novel import novel_classes
from kdcam.data.omniglot import list_characters
from kdcam.data.one_shot_runs import omniglot_runs
from kdcam.errors import DataError
from kdcam.progress import Silent

SHARED = Path(__file__).parents[2] / "../shared/data/omniglot"
needs_shared = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"Omniglot is not in {SHARED}"),
]


def draw(path, row):
    """Write a 1-bit picture of black ink, one line of it, on white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    paper = numpy.full((105, 105), 255, numpy.uint8)
    paper[row : row + 10] = 0
    Image.fromarray(paper).convert("1").save(path)


def draw_alphabet(folder, characters, *, drawings=4):
    for character in range(1, characters + 1):
        for number in range(1, drawings + 1):
            draw(folder / f"character{character:02}" / f"{number:02}.png", 10 * character)


def zip_up(folder, file):
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    return file


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


def test_a_broken_drawing_is_named(sets):
    (sets / "set1" / "Latin" / "character02" / "03.png").write_bytes(b"no picture")
    with pytest.raises(
        DataError, match=r"Latin/character02/03\.png: cannot be read as a picture \(not an im"
    ):
        load_data(OmniglotConfig(root=sets))


def test_sizes_above_the_drawings_own_are_refused():
    with pytest.raises(ValidationError, match=r"less than or equal to 105"):
        OmniglotConfig(root="x", image_size=128)


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "all_runs"
    for run in (1, 2):
        lines = []
        for number in (1, 2, 3):
            draw(folder / f"run0{run}/training/class0{number}.png", 20 * number)
            draw(folder / f"run0{run}/test/item0{number}.png", 20 * (number % 3 + 1))
            lines.append(f"run0{run}/test/item0{number}.png run0{run}/training/class0{number % 3 + 1}.png")
        (folder / f"run0{run}/class_labels.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_a_run_says_which_pictures_belong_together(runs, tmp_path):
    zipped = zip_up(runs / "run01", tmp_path / "one.zip")
    for place, count in ((runs, 2), (tmp_path, 2), (zipped, 1), (zip_up(runs, tmp_path / "all_runs.zip"), 2)):
        found = omniglot_runs(place)
        assert [run.name for run in found] == ["run01", "run02"][:count]
        first = found[0]
        assert first.training.targets.tolist() == [0, 1, 2]
        assert first.test.targets.tolist() == [1, 2, 0]
        training, test = first.training.images.pixels, first.test.images.pixels
        assert training.shape == (3, 1, 28, 28)
        assert torch.equal(test, training[first.test.targets])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("", r"item01\.png: .*class_labels\.txt does not name it"),
        ("run01/test/item01.png\n", r"line 1: found 'run01/test/item01\.png'; allowed: a test picture"),
        (
            "run01/test/item01.png run01/training/class09.png\n",
            r"says run01/training/class09\.png, which is not",
        ),
    ],
)
def test_labels_that_do_not_fit(runs, labels, message):
    (runs / "run01" / "class_labels.txt").write_text(labels)
    with pytest.raises(DataError, match=message):
        omniglot_runs(runs)


def test_missing_pieces_of_runs(runs, tmp_path):
    (runs / "run02" / "test" / "item03.png").unlink()
    with pytest.raises(DataError, match=r"names run02/test/item03\.png, which is not there"):
        omniglot_runs(runs)
    (runs / "run02" / "class_labels.txt").unlink()
    with pytest.raises(DataError, match=r"class_labels\.txt: is not there; fetch all_runs again"):
        omniglot_runs(runs)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no run01, run02"):
        omniglot_runs(tmp_path / "empty")


class TestSharedData:
    pytestmark = needs_shared

    def test_the_small_sets_hold_eight_alphabets(self):
        characters = list_characters(SHARED)
        assert len(characters) == 242  # 136 + 156, less the 24 Greek and 26 Latin ones in both
        assert {len(character.drawings) for character in characters} == {20}
        assert len({character.name.partition("/")[0] for character in characters}) == 8

    def test_the_official_runs(self):
        runs = omniglot_runs(SHARED / "all_runs.zip")
        assert [run.name for run in runs] == [f"run{number:02}" for number in range(1, 21)]
        for run in runs:
            assert sorted(run.test.targets.tolist()) == list(range(20))
            assert run.training.images.pixels.shape == (20, 1, 28, 28)
        with zipfile.ZipFile(SHARED / "all_runs.zip") as archive:
            lines = archive.read("run07/class_labels.txt").decode().split()[1::2]
        assert [f"run07/training/class{k + 1:02}.png" for k in runs[6].test.targets.tolist()] == lines
