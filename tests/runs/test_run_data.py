"""A run's data after its pictures were renamed, moved, swapped, added, removed, edited, copied."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from picture_folders import copy_run, edit, fill, paths_of, swap
from small_runs import Watcher, kept_files, small_recipe

import kdcam
from kdcam.data.dataset_parts import PictureTable
from kdcam.data.datasets import load_data_by_position
from kdcam.data.source_configs import ImageFolderConfig
from kdcam.errors import CheckpointError, DataError, Interrupted, RecipeError
from kdcam.evaluation.few_shot.episode_classes import check_unseen, unseen_in_folder
from kdcam.models.model_config import InitConfig
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runs import part_recovery
from kdcam.runs.open_run import load_run
from kdcam.runs.part_recovery import describe_changes
from kdcam.runs.picture_record import (
    PictureRecord,
    pictures_bytes,
    pictures_digest,
    read_pictures,
    write_pictures,
)
from kdcam.runs.run_data import warn_of_trained
from kdcam.runtime.progress import Silent
from kdcam.scores.classification import ClassificationReport


def recipe_on(root: Path, **data: object) -> TrainRecipe:
    table = {"name": "image-folder", "root": str(root), "image_size": 16, "test": 0.25, "validation": 0.2}
    return small_recipe(
        data={**table, **data}, loss=[{"name": "cross_entropy"}], epochs=1, batch_size=8, precision="fp32"
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and a run on it."""
    place = tmp_path_factory.mktemp("trained")
    kdcam.train(recipe_on(fill(place / "data")), output=place / "run", device="cpu")
    return place


class Place:
    """A run and its data, free to be changed."""

    def __init__(self, trained: Path, folder: Path) -> None:
        # as rsync and a restored backup do: the times of the files stay, their inodes do not
        self.root = Path(shutil.copytree(trained / "data", folder / "data"))
        self.run = copy_run(trained / "run", folder / "run")
        self.watcher = Watcher()

    @property
    def kept(self) -> PictureRecord:
        found = read_pictures(self.run)
        assert found is not None
        return found

    def file(self, part: str, number: int = 0, *, of: str = "") -> Path:
        """Return a file of a part, of a class if asked for."""
        return self.root / [path for path in paths_of(self.kept, part) if path.startswith(of)][number]

    def score(self, part: str = "test", *, rest: bool = False) -> ClassificationReport:
        found = kdcam.evaluate(
            self.run,
            part=part,  # type: ignore[arg-type]
            data={"root": str(self.root)},
            rest=rest,
            device="cpu",
            progress=self.watcher,
        )
        assert isinstance(found, ClassificationReport)
        return found


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Place:
    return Place(trained, tmp_path)


def test_the_record_tells_all_files_and_their_parts(trained: Path) -> None:
    kept = read_pictures(trained / "run")
    assert kept is not None
    files = sorted(
        path.relative_to(trained / "data").as_posix() for path in (trained / "data").rglob("*.png")
    )
    assert sorted(kept.table.paths) == files
    parts = {name: set(paths_of(kept, name)) for name in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == 36
    images = json.loads((trained / "run" / "result.json").read_text())["images"]
    assert {name: len(paths) for name, paths in parts.items()} == images
    assert all(kept.labels[i] == path.partition("/")[0] for i, path in enumerate(kept.table.paths))


def test_the_parts_are_bit_for_bit_those_that_were_trained_on(place: Place) -> None:
    fresh = kdcam.data.datasets.load_data(recipe_on(place.root).data)  # type: ignore[attr-defined]
    read = load_run(place.run, data={"root": str(place.root)}, device="cpu").parts
    for one, same in zip(fresh.by_name().values(), read.by_name().values(), strict=True):
        assert one is not None
        assert same is not None
        assert torch.equal(one.images.pixels, same.images.pixels)  # type: ignore[union-attr]
        assert torch.equal(one.targets, same.targets)
        assert one.paths == same.paths


def rename(place: Place) -> None:
    file = place.file("test")
    file.rename(file.with_name("another name.png"))
    file = place.file("train")
    file.rename(file.with_name("0.png"))


def move(place: Place) -> None:
    file = place.file("test")
    (file.parent / "deeper").mkdir()
    file.rename(file.parent / "deeper" / file.name)


def swap_with_training(place: Place) -> None:
    swap(place.file("test", of="bee"), place.file("train", of="bee"))


def rename_all(place: Place) -> None:
    for number, file in enumerate(sorted(place.root.rglob("*.png"))):
        file.rename(file.with_name(f"{997 * number % 1000}.png"))


def touch_all(place: Place) -> None:
    for file in place.root.rglob("*.png"):
        file.touch()


@pytest.mark.parametrize("change", [rename, move, swap_with_training, rename_all, touch_all])
def test_pictures_under_other_names_are_scored(place: Place, change: Callable[[Place], None]) -> None:
    before = {part: place.score(part) for part in ("train", "validation", "test")}
    change(place)
    for part, report in before.items():
        assert place.score(part) == report
    assert place.watcher.warnings == []


def remove(place: Place, file: Path) -> None:
    file.unlink()


def edit_it(place: Place, file: Path) -> None:
    edit(file)


def cut_short(place: Place, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:40])


def overwrite_with_training(place: Place, file: Path) -> None:
    shutil.copy2(place.file("train", of=file.parent.name), file)


def move_to_another_class(place: Place, file: Path) -> None:
    file.rename(place.root / "cat" / f"moved {file.name}")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (remove, "gone"),
        (edit_it, "edited"),
        (cut_short, "edited"),
        (overwrite_with_training, "edited"),
        (move_to_another_class, "of another label now"),
    ],
)
def test_lost_pictures_are_refused_with_names_and_the_rest_is_scored(
    place: Place, change: Callable[[Place, Path], None], word: str
) -> None:
    whole, train = place.score(), place.score("train")
    files = [place.file("test", of="ant"), place.file("test", of="bee")]
    for file in files:
        change(place, file)
    total, names = whole.images, ", ".join(f"{file.parent.name}/{file.name}" for file in files)
    with pytest.raises(
        DataError,
        match=rf"run: 2 of the {total} pictures of its test part are not what they were \({word}: {names}\); restore "
        rf"them, or score the {total - 2} that are left with rest \(--rest\)",
    ):
        place.score()
    assert place.score("train") == train  # the other parts are as they were
    assert place.score(rest=True).images == total - 2
    assert f"the {total - 2} of {total} that are left count" in place.watcher.warnings[-1]


def test_nothing_left_is_refused(place: Place) -> None:
    for path in paths_of(place.kept, "test"):
        (place.root / path).unlink()
    with pytest.raises(DataError, match=r"of its test part are not what they were .*; restore them$"):
        place.score(rest=True)
    assert place.watcher.warnings == []  # the refusal says it all


def test_added_pictures_are_not_scored_and_counted(place: Place) -> None:
    before = place.score()
    fill(place.root, classes=("ant",), count=3, seed=5)  # overwrites ant000 to ant002
    with pytest.raises(DataError, match="ant/ant00"):
        place.score("train")
    for number in range(3):
        shutil.copy2(place.file("train", number, of="bee"), place.root / "bee" / f"copy{number}.png")
    lost = [path for path in paths_of(place.kept, "test") if path in {f"ant/ant00{k}.png" for k in range(3)}]
    after = place.score(rest=bool(lost))
    assert after.images == before.images - len(lost)
    assert any(
        "3 files of its data have been added since it was trained (bee/copy0.png, bee/copy1.png, bee/copy2.png)"
        in text
        for text in place.watcher.warnings
    )


def test_only_changed_files_are_read_again(
    trained: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[str]()
    plain = part_recovery.file_key

    def counted(path: Path) -> object:
        read.append(path.name)
        return plain(path)

    monkeypatch.setattr(part_recovery, "file_key", counted)
    load_run(trained / "run", device="cpu")
    assert read == []
    load_run(place.run, data={"root": str(place.root)}, device="cpu")  # other inodes: each once
    assert len(read) == 36


def test_moved_data_names_the_way_out(place: Place, tmp_path: Path) -> None:
    before = place.score()
    place.root = place.root.rename(tmp_path / "elsewhere")
    gone = {"root": str(tmp_path / "data")}
    with pytest.raises(
        DataError, match=r"run: data\.root: .*data is no folder .* now with --set data\.root=DIR"
    ):
        kdcam.evaluate(place.run, data=gone)
    assert place.score() == before
    with pytest.raises(
        RecipeError, match=r"data\.split_seed: cannot be changed .*; allowed: data\.root, data\.workers"
    ):
        kdcam.evaluate(place.run, data={"split_seed": 1})


def test_a_damaged_or_missing_record_is_refused(place: Place) -> None:
    file = place.run / "pictures.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"pictures\.safetensors: is damaged or of another run"):
        place.score()
    file.unlink()
    with pytest.raises(CheckpointError, match=r"pictures\.safetensors: cannot be read .*restore it"):
        place.score()


def forget(run: Path) -> None:
    """Make a run one from before pictures were kept."""
    (run / "pictures.safetensors").unlink()
    record = json.loads((run / "recipe.json").read_text())
    del record["pictures"]
    (run / "recipe.json").write_text(json.dumps(record))


def test_a_run_from_before_keeps_its_draw_and_says_so(place: Place) -> None:
    forget(place.run)
    loaded = load_run(place.run, data={"root": str(place.root)}, device="cpu", progress=place.watcher)
    then = load_data_by_position(ImageFolderConfig.model_validate(loaded.recipe.data.model_dump()))
    # as they were drawn before pictures had keys
    assert [path.name for path in then.test.paths or ()] == DRAWN_THEN  # type: ignore[union-attr]
    assert loaded.part("test").paths == then.test.paths  # type: ignore[union-attr]
    assert "its pictures were not recorded when it was trained" in place.watcher.warnings[0]


DRAWN_THEN = [
    f"{name}.png"
    for name in "ant004 bee004 cat005 ant006 bee006 cat006 ant008 bee011 cat007".split()  # noqa: SIM905
]


def test_copies_in_a_folder_of_the_users_are_told_at_training_and_when_scored(tmp_path: Path) -> None:
    root = tmp_path / "data"
    fill(root / "train")
    fill(root / "test", count=3, seed=1)
    shutil.copy(root / "train" / "ant" / "ant003.png", root / "test" / "ant" / "mine.png")
    watcher = Watcher()
    run = kdcam.train(recipe_on(root), output=tmp_path / "run", device="cpu", progress=watcher).path
    assert any(
        "1 of the 10 pictures of the test part are copies of training pictures, byte for byte (test/ant/mine.png)"
        in text
        for text in watcher.warnings
    )
    watcher = Watcher()
    kdcam.evaluate(run, device="cpu", progress=watcher)
    assert "(test/ant/mine.png): its scores on this part are too good" in watcher.warnings[0]
    # pictures that come into the folder later are of no part
    shutil.copy(root / "train" / "bee" / "bee003.png", root / "test" / "bee" / "later.png")
    fill(root / "test", classes=("cat",), count=5, seed=1)
    watcher = Watcher()
    report = kdcam.evaluate(run, device="cpu", rest=True, progress=watcher)
    assert isinstance(report, ClassificationReport)
    assert report.images <= 10
    assert any("files of its data have been added since it was trained" in text for text in watcher.warnings)


def test_pictures_from_elsewhere_are_held_against_the_training_pictures(place: Place, tmp_path: Path) -> None:
    other = fill(tmp_path / "other", classes=("dog", "eel"), seed=4)
    shutil.copy(place.file("train"), other / "dog" / "x.png")
    shutil.copy(place.file("test"), other / "eel" / "y.png")
    warn_of_trained(place.run, sorted(other.rglob("*.png")), "other", place.watcher)
    (warning,) = place.watcher.warnings
    assert f"other: 1 of 26 pictures are those that {place.run} was trained on, byte for byte (" in warning
    assert "dog/x.png" in warning
    with pytest.raises(DataError):  # few-shot asks: its own classes first
        check_unseen(
            unseen_in_folder(place.root, kdcam.load(place.run), progress=Silent()),
            place.run,
            progress=Silent(),
        )
    watcher = Watcher()
    check_unseen(
        unseen_in_folder(other, kdcam.load(place.run), progress=watcher), place.run, progress=watcher
    )
    assert "1 of 26 pictures are those that" in watcher.warnings[-1]
    watcher = Watcher()
    warn_of_trained(other, [], "no run", watcher)
    assert watcher.warnings == []


def test_a_start_that_has_seen_the_held_out_pictures_is_told(place: Place, tmp_path: Path) -> None:
    recipe = recipe_on(place.root, split_seed=5).model_copy(
        update={"init": InitConfig(checkpoint=str(place.run)), "epochs": 1}
    )
    watcher = Watcher()
    kdcam.finetune(recipe, output=tmp_path / "tuned", device="cpu", progress=watcher)
    seen = [text for text in watcher.warnings if f"{place.run} was trained on" in text]
    assert len(seen) == 2  # validation and test
    assert "take a network with the same split (data.split_seed" in seen[0]
    watcher = Watcher()
    kdcam.evaluate(tmp_path / "tuned", device="cpu", progress=watcher)
    assert watcher.warnings == seen
    watcher = Watcher()
    same = recipe.model_copy(update={"data": recipe.data.model_copy(update={"split_seed": 0})})
    kdcam.finetune(same, output=tmp_path / "same", device="cpu", progress=watcher)
    assert not any("was trained on" in text for text in watcher.warnings)


def test_train_on_a_finished_run_tells_what_changed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = json.loads((place.run / "recipe.json").read_text())["recipe"]
    there = kdcam.recipe.train_recipe.read_recipe(recipe, source="kept")  # type: ignore[attr-defined]
    trained = Path(recipe["data"]["root"])
    place.root = trained
    assert kdcam.train(there, output=place.run, progress=place.watcher).was_finished
    assert place.watcher.warnings == []
    file = place.file("train")
    held = file.read_bytes()
    try:
        file.unlink()
        (file.parent / "new.png").write_bytes(held + b" ")
        assert kdcam.train(there, output=place.run, progress=place.watcher).was_finished
    finally:
        file.write_bytes(held)
        (file.parent / "new.png").unlink()
    (warning,) = place.watcher.warnings
    assert f"1 of 36 pictures have changed (gone: {file.parent.name}/{file.name}); 1 are new" in warning


def test_of_many_changed_files_train_says_that_they_were_not_read(place: Place) -> None:
    config = ImageFolderConfig(root=place.root, image_size=16)
    assert describe_changes(config, place.kept, most_read=36) is None  # copied: other inodes, the same bytes
    assert describe_changes(config, place.kept, most_read=35) == (
        "may have changed since it was trained: 36 of 36 pictures have other sizes or times, or are gone, and were not "
        "read again"
    )


def unfinished(folder: Path, root: Path) -> TrainRecipe:
    recipe = recipe_on(root).model_copy(update={"epochs": 3})
    with pytest.raises(Interrupted):
        kdcam.train(recipe, output=folder / "run", device="cpu", progress=Watcher(stop_after=5))
    return recipe


def test_resume_goes_on_with_the_same_pictures(tmp_path: Path) -> None:
    root = fill(tmp_path / "data")
    kdcam.train(recipe_on(root).model_copy(update={"epochs": 3}), output=tmp_path / "whole", device="cpu")
    recipe = unfinished(tmp_path, root)
    for number, file in enumerate(sorted(root.rglob("*.png"))[::3]):
        file.rename(file.with_name(f"{number}.png"))
    fill(root / "bee", classes=("more",), count=1, seed=9)  # a new one of class bee
    watcher = Watcher()
    kdcam.train(recipe, output=tmp_path / "run", device="cpu", progress=watcher)
    assert kept_files(tmp_path / "run") == kept_files(tmp_path / "whole")
    assert any(
        "1 files have been added to its data since it began (bee/more/more000.png)" in m
        for m in watcher.messages
    )


def test_an_unfinished_run_from_before_goes_on_with_its_own_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "data")
    with monkeypatch.context() as before:
        before.setattr("kdcam.training.training_run.load_data", load_data_by_position)
        kdcam.train(recipe_on(root).model_copy(update={"epochs": 3}), output=tmp_path / "whole", device="cpu")
        recipe = unfinished(tmp_path, root)
    kdcam.train(recipe, output=tmp_path / "run", device="cpu")
    assert kept_files(tmp_path / "run") == kept_files(tmp_path / "whole")
    assert read_pictures(tmp_path / "run") is None


def test_resume_refuses_changed_pictures_with_names(tmp_path: Path) -> None:
    root = fill(tmp_path / "data")
    recipe = unfinished(tmp_path, root)
    kept = read_pictures(tmp_path / "run")
    assert kept is not None
    first, second, *_ = paths_of(kept, "train")
    edit(root / first)
    (root / second).unlink()
    with pytest.raises(
        CheckpointError,
        match=rf"the data has changed since the run began: 2 of the \d+ pictures of its train part \(gone: {second}; "
        rf"edited: {first}\); restore the pictures, or start over with --resume never",
    ):
        kdcam.train(recipe, output=tmp_path / "run", device="cpu")
    done = kdcam.train(recipe, output=tmp_path / "run", device="cpu", resume="never")
    assert done.result["images"]["train"] == pytest.approx(len(kept.parts["train"]), abs=2)


def test_an_unfinished_run_goes_on_with_moved_data(tmp_path: Path) -> None:
    root = fill(tmp_path / "data")
    unfinished(tmp_path, root)
    moved = root.rename(tmp_path / "moved")
    recipe = recipe_on(moved).model_copy(update={"epochs": 3})
    done = kdcam.train(recipe, output=tmp_path / "run", device="cpu")
    assert not done.was_finished
    assert kdcam.train(recipe, output=tmp_path / "run").was_finished
    with pytest.raises(CheckpointError, match=r"another recipe \(data\.split_seed: 0 there, 1 here\)"):
        kdcam.train(recipe_on(moved, split_seed=1).model_copy(update={"epochs": 3}), output=tmp_path / "run")


def test_noisy_labels_stay_those_of_their_pictures(tmp_path: Path) -> None:
    root = fill(tmp_path / "data")
    recipe = recipe_on(root, noise={"rate": 0.5})
    run = kdcam.train(recipe, output=tmp_path / "run", device="cpu").path
    before = load_run(run, device="cpu").parts
    kept = read_pictures(run)
    assert kept is not None
    first, second, *_ = paths_of(kept, "train")
    (root / second).rename((root / second).with_name("0.png"))
    after = load_run(run, device="cpu").parts
    assert after.noise is not None
    assert before.noise is not None
    assert torch.equal(after.train.targets, before.train.targets)
    (root / first).unlink()
    watcher = Watcher()
    rest = load_run(run, device="cpu", rest=True, progress=watcher)
    assert torch.equal(rest.part("train").targets, before.train.targets[1:])
    assert rest.parts.noise is not None
    assert torch.equal(rest.parts.noise.clean, before.noise.clean[1:])
    assert "are left count" in watcher.warnings[0]


def test_labels_of_a_file_that_changed_are_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "data")
    files = sorted(root.rglob("*.png"))
    table = {path.relative_to(root).as_posix(): path.parent.name for path in files}

    def write() -> None:
        rows = "".join(f"{path},{label}\n" for path, label in table.items())
        (root / "labels.csv").write_text("image,labels\n" + rows)

    write()
    data = {"name": "image-labels", "root": str(root), "labels": "labels.csv", "image_size": 16, "test": 0.25}
    recipe = small_recipe(
        data={**data, "validation": 0.2},
        task="multi-label",
        loss=[{"name": "binary_cross_entropy"}],
        epochs=1,
        batch_size=8,
    )
    run = kdcam.train(recipe, output=tmp_path / "run", device="cpu").path
    before = kdcam.evaluate(run, device="cpu")
    kept = read_pictures(run)
    assert kept is not None
    first, second, third, *_ = paths_of(kept, "test")
    (root / third).rename(root / "under another name.png")  # the label file still has the old one
    assert kdcam.evaluate(run, device="cpu") == before
    table[first] = "ant;bee;cat"
    del table[second]
    write()
    count = len(kept.parts["test"])
    with pytest.raises(
        DataError, match=rf"2 of the {count} pictures .* \(gone: {second}; of another label now: {first}\)"
    ):
        kdcam.evaluate(run, device="cpu")
    assert kdcam.evaluate(run, device="cpu", rest=True).images == count - 2


def test_a_record_of_rows_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = (torch.rand(7, 11) < 0.4).float()
    table = PictureTable(
        (*(f"a b/ü {n}.png" for n in range(6)), os.fsdecode(b"no utf-8 \xff.png")),
        torch.randint(256, (7, 32), dtype=torch.uint8),
        torch.randint(2**60, (7, 4)),
        rows,
        tuple(f"class {k}" for k in range(11)),
        ("bad.png",),
    )
    parts = {
        "train": torch.tensor([5, 1]),
        "validation": torch.tensor([], dtype=torch.int64),
        "test": torch.tensor([6]),
    }
    data = pictures_bytes(PictureRecord(table, parts, table.label_names[::-1]))
    write_pictures(tmp_path, data)
    (tmp_path / "recipe.json").write_text(json.dumps({"pictures": pictures_digest(data)}))
    kept = read_pictures(tmp_path)
    assert kept is not None
    assert (kept.table.paths, kept.table.unread, kept.label_names) == (
        table.paths,
        ("bad.png",),
        table.label_names[::-1],
    )
    for name in ("keys", "stamps", "targets"):
        assert torch.equal(getattr(kept.table, name), getattr(table, name))
    assert {name: value.tolist() for name, value in kept.parts.items()} == {
        "train": [5, 1],
        "validation": [],
        "test": [6],
    }
