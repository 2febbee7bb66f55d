import json
import shutil
from pathlib import Path

import numpy
import pytest
import torch
from face_folders import face_folder, random_network
from PIL import Image
from small_runs import Watcher

import kdcam
from kdcam.comparison.table.run_measures import read_evaluations
from kdcam.data.batches.decoding import read_image
from kdcam.data.verification_pairs import folds_of, read_pairs
from kdcam.errors import CheckpointError, DataError, Interrupted, ModelError, RecipeError
from kdcam.evaluation.verification.pair_drawing import make_pairs
from kdcam.evaluation.verification.verification_evaluation import verify
from kdcam.evaluation.verification.verification_metrics import fold_scores, squared_distances
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.train_recipe import read_recipe
from kdcam.runs.run_files import VERIFICATION_FILE


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return face_folder(tmp_path_factory.mktemp("data") / "faces", [f"s{number}" for number in range(1, 9)])


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on five of the eight people."""
    data = {
        "name": "image-folder",
        "split_seed": 3,
        "root": str(faces),
        "image_size": 16,
        "channels": 1,
        "test": 0.0,
    }
    table = {
        "epochs": 1,
        "batch_size": 8,
        "data": {**data, "validation": 0.2, "class_split": {"novel": 3}},
        "model": {"name": "kdcam:resnet8_s2"},
        "loss": [{"name": "cross_entropy"}],
    }
    place = tmp_path_factory.mktemp("runs") / "faces-0"
    return kdcam.train(read_recipe(table, source="faces"), output=place).path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def pairs(faces: Path, trained: Path, tmp_path: Path) -> Path:
    return make_pairs(faces, tmp_path / "pairs.txt", not_in=[trained], folds=3, per_fold=10).file


def test_numbers_and_file(run: Path, pairs: Path, faces: Path) -> None:
    (report,) = verify(run, pairs, faces)
    classifier = kdcam.load(run)
    named = read_pairs(pairs, faces)
    embeddings = []
    for path in named.paths:
        image = read_image(path, image_size=16, channels=1)[None].float() / 255
        with torch.no_grad():
            both = classifier.outputs(image).embedding + classifier.outputs(image.flip(3)).embedding
        embeddings.append((both / both.norm())[0].numpy())
    rows = numpy.array(embeddings, dtype=numpy.float64)
    distances = numpy.square(rows[named.first] - rows[named.second]).sum(1)
    expected = fold_scores(distances, named.same, folds_of(named, None))
    assert [fold.accuracy for fold in report.scores.folds] == [fold.accuracy for fold in expected]
    assert report.scores.accuracy == pytest.approx(sum(fold.accuracy for fold in expected) / 3)
    written = json.loads((run / VERIFICATION_FILE).read_text())
    assert written["headline"] == report.headline()
    assert set(written["headline"]) == {"accuracy", "tar at far 0.001", "tar at far 0.01", "auc", "eer"}
    assert written["pairs"]["pairs"] == 60
    assert written["pairs"]["people"] == 3
    assert written["model"] == report.model
    assert written["settings"]["flip"] is True
    assert (written["weights"], "weights" in written["settings"]) == ("selected", False)
    assert len(written["roc"]["far"]) == len(written["roc"]["tar"])


def test_several_runs_one_picture_and_nothing_in_other_folders(
    run: Path, pairs: Path, faces: Path, tmp_path: Path
) -> None:
    network = random_network(tmp_path / "network")
    watcher = Watcher()
    found = verify([run, network], pairs, faces, figures=tmp_path / "figures", progress=watcher)
    assert [report.run for report in found] == [run, network]
    assert found[0].model != found[1].model
    assert found[0].pairs == found[1].pairs
    assert sorted(file.name for file in network.iterdir()) == ["config.json", "model.safetensors"]
    with Image.open(tmp_path / "figures" / "roc.png") as picture:
        assert picture.format == "PNG"
    read = [done for done in watcher.done if done[0] == "reading pictures of pairs"]
    assert read == [("reading pictures of pairs", 15, 15)]  # once for both


def test_each_run_keeps_a_picture_of_its_own(run: Path, pairs: Path, faces: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    verify([run, other], pairs, faces)
    pictures = [place / "figures" / "roc.png" for place in (run, other)]
    for picture in pictures:
        with Image.open(picture) as shown:
            assert shown.format == "PNG"
    verify(run, pairs, faces, draw=False)
    assert [picture.exists() for picture in pictures] == [False, True]  # it was of earlier numbers
    (other / "figures" / "roc.png").unlink()
    (other / "figures" / "roc.png").mkdir()
    watcher = Watcher()
    with pytest.raises(CheckpointError, match=r"other/figures/roc\.png: is a folder"):
        verify(other, pairs, faces, progress=watcher)
    assert watcher.done == []


def test_settings_count(run: Path, pairs: Path, faces: Path) -> None:
    plain, other = (
        verify(
            run, pairs, faces, settings={"flip": flip, "thresholds": thresholds, "far": (0.2,), "folds": 2}
        )[0]
        for flip, thresholds in ((True, "grid"), (False, "midpoints"))
    )
    assert len(plain.scores.folds) == 2
    assert plain.scores.auc != other.scores.auc  # flip
    assert [one.far for one in other.scores.true_accepts] == [0.2]
    few, midpoints = (
        verify(run, pairs, faces, settings={"thresholds": kind, "far": (0.2,), "folds": 2})[0].scores
        for kind in ("grid", "midpoints")
    )
    assert few.folds == plain.scores.folds
    assert [fold.threshold for fold in few.folds] != [fold.threshold for fold in midpoints.folds]
    with pytest.raises(RecipeError, match=r"verify\.far\[0\] \(--far\): found 0"):
        verify(run, pairs, faces, settings={"far": (0.0,)})
    with pytest.raises(RecipeError, match=r"more than once"):
        verify(run, pairs, faces, settings={"far": (0.1, 0.1)})
    with pytest.raises(RecipeError, match=r"verify\.folds \(--folds\): found 1"):
        verify(run, pairs, faces, settings={"folds": 1})


def test_people_that_a_run_was_trained_on_are_refused(run: Path, faces: Path, tmp_path: Path) -> None:
    every = make_pairs(faces, tmp_path / "all.txt", folds=2).file
    names = kdcam.load(run).label_names
    said = rf"was trained on '{names[0]}', '{names[1]}', '{names[2]}' and 2 more, of 8 people in .*all\.txt, so it"
    with pytest.raises(DataError, match=said):
        verify(run, every, faces)
    assert not (run / VERIFICATION_FILE).exists()
    watcher = Watcher()
    (report,) = verify(run, every, faces, settings={"allow_seen": True}, progress=watcher)
    assert report.seen == names
    assert any("are not those of new people" in text for text in watcher.warnings)


def test_people_that_a_run_learned_of_before_are_refused(
    run: Path, pairs: Path, faces: Path, tmp_path: Path
) -> None:
    before = random_network(tmp_path / "before", label_names=read_pairs(pairs, faces).people)
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["recipe"]["init"] = {"checkpoint": str(before)}
    (run / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(
        DataError, match=r"run learned from .*before, which was trained on '\w+', .*, so it has seen"
    ):
        verify(run, pairs, faces)
    (report,) = verify(run, pairs, faces, settings={"allow_seen": True})
    assert report.seen == tuple(read_pairs(pairs, faces).people)
    recipe["recipe"]["init"] = {"checkpoint": "resnet18"}
    (run / "recipe.json").write_text(json.dumps(recipe))
    watcher = Watcher()
    verify(run, pairs, faces, progress=watcher)
    assert any("learned from resnet18: whose classes are not known" in text for text in watcher.warnings)


def test_nothing_is_written_where_a_later_run_is_refused(
    run: Path, pairs: Path, faces: Path, tmp_path: Path
) -> None:
    seen = random_network(tmp_path / "network", label_names=read_pairs(pairs, faces).people)
    with pytest.raises(DataError, match=r"network was trained on"):
        verify([run, seen], pairs, faces)
    assert not (run / VERIFICATION_FILE).exists()
    colours = random_network(tmp_path / "colours", channels=3)
    assert verify(colours, pairs, faces)[0].scores.accuracy >= 0.4
    four = random_network(tmp_path / "four", channels=3)
    with pytest.raises(Interrupted, match=r"was stopped"):
        verify([run, four], pairs, faces, progress=Watcher(stop_after=1))
    assert not (run / VERIFICATION_FILE).exists()


def test_a_network_of_other_channels(
    run: Path, pairs: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = build_classifier(
        ModelConfig(name="kdcam:resnet8_s2", mean=(0.5, 0.5), std=(1.0, 1.0)),
        num_classes=2,
        in_channels=2,
        image_size=16,
        label_names=("x", "y"),
    )
    monkeypatch.setattr("kdcam.evaluation.verification.verification_evaluation.load", lambda *_, **__: odd)
    with pytest.raises(
        ModelError, match=r"takes 2 channels; picture files are read as gray \(1\) or RGB \(3\)"
    ):
        verify(run, pairs, faces)


def test_a_picture_that_cannot_be_read(run: Path, pairs: Path, faces: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(faces, tmp_path / "broken")
    first = read_pairs(pairs, broken).paths[0]
    first.write_bytes(b"no picture")
    with pytest.raises(
        DataError, match=r"1 of 15 pictures of .*pairs\.txt cannot be read: .*not an image"
    ) as error:
        verify(run, pairs, broken)
    assert str(first) in str(error.value)


def test_large_pictures_are_read_by_the_batch(run: Path, pairs: Path, faces: Path, monkeypatch) -> None:
    (held,) = verify(run, pairs, faces)
    monkeypatch.setattr("kdcam.evaluation.verification.verification_evaluation.RESIDENT_LIMIT", 8)
    monkeypatch.setattr("kdcam.evaluation.verification.verification_evaluation._WORKERS", 0)
    (streamed,) = verify(run, pairs, faces, batch_size=4)
    assert streamed.scores.folds == held.scores.folds
    assert streamed.scores.auc == held.scores.auc


def test_large_pictures_that_cannot_be_read_are_all_named_first(
    run: Path, pairs: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdcam.evaluation.verification.verification_evaluation.RESIDENT_LIMIT", 8)
    broken = shutil.copytree(faces, tmp_path / "broken")
    for path in read_pairs(pairs, broken).paths[:5]:
        path.write_bytes(b"no picture")
    watcher = Watcher()
    with pytest.raises(DataError, match=r"5 of 15 pictures of .*pairs\.txt cannot be read: .* and 2 more"):
        verify(run, pairs, broken, progress=watcher)
    assert [task for task, _, _ in watcher.done] == ["reading pictures of pairs"]


def test_what_cannot_be_written_is_known_before_the_work(
    run: Path, pairs: Path, faces: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    (other / VERIFICATION_FILE).mkdir()
    watcher = Watcher()
    with pytest.raises(CheckpointError, match=r"other/verification\.json: is a folder"):
        verify([run, other], pairs, faces, progress=watcher)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file: the folder cannot be made"):
        verify(run, pairs, faces, figures=tmp_path / "file", progress=watcher)
    assert watcher.done == []
    assert not (run / VERIFICATION_FILE).exists()


def facts(run: Path, *arguments: Path, **settings: object) -> str:
    """Verify a run, and return what `kdcam compare` takes for the question that it was asked."""
    (report,) = verify(run, *arguments, settings=settings)
    found = read_evaluations(run)
    assert found.left_out == ()
    assert found.found["verification"].values == report.headline()
    return found.found["verification"].facts


def test_what_compare_reads(run: Path, pairs: Path, faces: Path, tmp_path: Path) -> None:
    usual = facts(run, pairs, faces)
    assert facts(run, pairs, faces, folds=3) == usual  # the file's own
    assert facts(run, pairs, faces, allow_seen=True, far=(0.1,)) == usual  # nobody was seen
    assert facts(run, pairs, faces, folds=2) != usual
    assert facts(run, pairs, faces, flip=False) != usual
    other = shutil.copytree(faces, tmp_path / "other")
    for person in other.iterdir():
        shutil.copy(faces / "s1" / "1.png", person / "1.png")
    assert facts(run, pairs, other) != usual  # other pixels of the same names
    people = read_pairs(pairs, faces).people
    config = json.loads((run / "config.json").read_text())
    for table in (config, config["kdcam"]):
        table["label_names"] = [*people, *(f"x{number}" for number in range(2))]
    (run / "config.json").write_text(json.dumps(config))
    assert facts(run, pairs, faces, allow_seen=True) != usual  # everybody was


def test_what_is_odd_about_pairs_is_told(run: Path, pairs: Path, faces: Path) -> None:
    lines = pairs.read_text().splitlines()
    lines[2] = lines[1]
    pairs.write_text("\n".join(lines) + "\n")
    watcher = Watcher()
    verify(run, pairs, faces, progress=watcher)
    assert any("1 of 60 pairs stand there before" in text for text in watcher.messages)


def test_unknown_people_are_told(run: Path, faces: Path, tmp_path: Path) -> None:
    person = faces / "s1"
    rows = [f"{one}.png,{two}.png,{int(one < 3)}" for one, two in ((1, 2), (3, 4), (2, 3), (4, 5))]
    file = tmp_path / "pairs.csv"
    file.write_text("\n".join(["first,second,same", *rows]) + "\n")
    watcher = Watcher()
    verify(run, file, person, settings={"folds": 2}, progress=watcher)
    assert any("is not known: 5 pictures of the pairs have no names" in text for text in watcher.messages)


def test_distances_too_small_for_the_grid_are_told(
    run: Path, pairs: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def near(*args: numpy.ndarray) -> numpy.ndarray:
        return squared_distances(*args) / 1000

    plain = Watcher()
    (before,) = verify(run, pairs, faces, settings={"thresholds": "midpoints"}, progress=plain)
    monkeypatch.setattr("kdcam.evaluation.verification.verification_evaluation.squared_distances", near)
    coarse, fine = Watcher(), Watcher()
    (grid,) = verify(run, pairs, faces, progress=coarse)
    (midpoints,) = verify(run, pairs, faces, settings={"thresholds": "midpoints"}, progress=fine)
    assert grid.scores.accuracy == 0.5
    assert midpoints.scores.accuracy == before.scores.accuracy > 0.5
    assert any("thresholds in steps of 0.01 tell little apart" in text for text in coarse.warnings)
    assert not fine.warnings
