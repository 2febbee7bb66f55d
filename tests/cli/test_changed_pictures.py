"""Pictures that change between training and each command that reads a run's data."""

import json
import shutil
from pathlib import Path

import pytest
from picture_folders import copy_run, edit, fill, paths_of, swap

import kdcam as library
from kdcam.runs.picture_record import read_pictures

COMMANDS = {
    "evaluate": (),
    "evaluate-robustness": ("--attacks", "fgsm", "--no-checks", "--no-pictures"),
    "localize": ("--boxes", "boxes.csv", "--no-pictures", "--map", "caam"),
    "few-shot": ("--ways", "2", "--shots", "1", "--queries", "2", "--episodes", "5", "--head", "prototype"),
}
NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture(scope="session")
def picture_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/, a run on two of its four classes, and boxes.csv."""
    place = tmp_path_factory.mktemp("pictures")
    fill(place / "data", classes=NAMES)
    (place / "split.csv").write_text("class,part\nant,base\nbee,base\ncat,novel\ndog,novel\n")
    (place / "recipe.toml").write_text(
        f"""
epochs = 1
batch_size = 8
[data]
name = "image-folder"
root = "{place / "data"}"
image_size = 16
test = 0.3
validation = 0.2
[data.class_split]
file = "{place / "split.csv"}"
[model]
name = "kdcam:resnet8_s2"
[[loss]]
name = "cross_entropy"
"""
    )
    library.train(place / "recipe.toml", output=place / "run", device="cpu")
    return place


class Place:
    def __init__(self, made: Path, folder: Path, command: str) -> None:
        self.root = Path(shutil.copytree(made / "data", folder / "data"))
        self.run = copy_run(made / "run", folder / "run")
        kept = read_pictures(self.run)
        assert kept is not None
        self.trained = [self.root / path for path in paths_of(kept, "train")]
        scored = paths_of(kept, "test")
        if command == "few-shot":
            scored = [kept.table.paths[position] for position in kept.left_out_of(("cat", "dog"))]
        self.scored = [self.root / path for path in scored]
        lines = [f"{path.relative_to(self.root).as_posix()},2,2,15,15" for path in self.root.rglob("*.png")]
        (folder / "boxes.csv").write_text("path,x0,y0,x1,y1\n" + "\n".join(lines) + "\n")


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(picture_run: Path, tmp_path: Path, command: str) -> Place:
    return Place(picture_run, tmp_path, command)


@pytest.fixture
def ask(kdcam, command: str, place: Place):
    """Return what the command says of the run, as JSON, and on stderr."""

    def asked(*more: str, fails: bool = False):
        root = ("--set", f"data.root={place.root}")
        done = kdcam(command, place.run, *COMMANDS[command], *root, *more, "--json", "-q")
        assert done.code == int(fails), done.err
        return done.err if fails else (json.loads(done.out), done.err)

    return asked


def found_in(document, command: str):
    """Return the numbers of a command's document that the scored pictures decide."""
    if command == "evaluate":
        return {key: value for key, value in document.items() if key != "evaluations"}
    first = document[0]
    if command == "few-shot":
        return [score["right"] for score in first["scores"]]
    if command == "evaluate-robustness":
        return first["attacks"]
    return {key: value for key, value in first.items() if key != "run"}


def test_renamed_and_swapped_pictures_are_scored_as_before(ask, command, place: Place) -> None:
    before, _ = ask()
    scored = [path for path in place.scored if path.parent.name in ("ant", "cat")]
    scored[0].rename(scored[0].with_name("0.png"))
    same_class = [path for path in (*place.trained, *place.scored) if path.parent == scored[1].parent]
    swap(scored[1], next(path for path in reversed(same_class) if path != scored[1] and path.exists()))
    after, err = ask()
    assert found_in(after, command) == found_in(before, command)
    assert err == ""


def test_removed_and_edited_pictures_are_refused_and_the_rest_is_scored(ask, place: Place) -> None:
    gone, edited = place.scored[0], place.scored[-1]
    gone.unlink()
    edit(edited)
    err = ask(fails=True)
    assert err.startswith("kdcam:")
    assert len(err.splitlines()) == 1
    count = len(place.scored)
    assert f"2 of the {count} pictures of its" in err
    for word, path in (("gone", gone), ("edited", edited)):
        assert f"{word}: {path.relative_to(place.root).as_posix()}" in err
    assert f"score the {count - 2} that are left with rest (--rest)" in err
    _, err = ask("--rest")
    assert f"the {count - 2} of {count} that are left count" in err


def test_a_training_picture_among_the_scored_ones_is_not_scored(ask, command, place: Place) -> None:
    before, _ = ask()
    shutil.copy2(place.trained[0], place.scored[0].with_name("sneaked in.png"))
    after, err = ask()
    assert "1 files of its data have been added" in err
    assert found_in(after, command) == found_in(before, command)
    shutil.copy2(place.trained[0], place.scored[0])
    assert "edited" in ask(fails=True)


def test_moved_data_names_the_way(kdcam, command, place: Place, tmp_path: Path) -> None:
    place.root.rename(tmp_path / "elsewhere")
    done = kdcam(command, place.run, *COMMANDS[command], "--set", f"data.root={place.root}")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "--set data.root=DIR" in done.err
    done = kdcam(command, place.run, *COMMANDS[command], "--set", "optimizer.lr=1")
    assert "--set optimizer: a run is as it was trained" in done.err
    assert done.code == 1
