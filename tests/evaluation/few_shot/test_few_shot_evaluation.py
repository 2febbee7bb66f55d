import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import SCENES, Watcher, small_recipe

import kdcam
from kdcam.data.novel_class_images import novel_classes
from kdcam.errors import CheckpointError, DataError, Interrupted, ModelError, RecipeError
from kdcam.evaluation.few_shot.few_shot_schema import FewShotReport
from kdcam.files.digests import weights_digest
from kdcam.models.weights.safetensors_files import read_tensors_file
from kdcam.runs.open_run import recipe_of
from kdcam.runtime.progress import Silent

SMALL = {"ways": 3, "shots": (1, 2), "queries": 3, "episodes": 20}


def evaluate(*runs: Path, **changes: object) -> list[FewShotReport]:
    return kdcam.evaluate_few_shot(runs, settings={**SMALL, **changes}, device="cpu")


def test_scores_on_the_novel_classes_are_written_into_each_run(split_runs: tuple[Path, Path]) -> None:
    found = evaluate(*split_runs)
    for report, run in zip(found, split_runs, strict=True):
        written = json.loads((run / "few-shot.json").read_text())
        assert written == json.loads(json.dumps(report.to_json()))
        assert written["model"] == weights_digest(kdcam.load(run).network)
        assert written["settings"]["episodes"] == 20
        assert written["weights"] == "selected"
        assert list(written["headline"]) == [
            f"3-way {shots}-shot {head}"
            for shots in (1, 2)
            for head in ("prototype", "cosine-prototype", "logistic", "baseline", "baseline++")
        ]
        first = written["headline"]["3-way 1-shot prototype"]
        assert 0 < first["mean"] < 1
        assert 0 < first["interval"] < 0.2
        assert len(written["scores"][0]["right"]) == 20


def test_runs_are_compared_on_the_same_episodes(split_runs: tuple[Path, Path]) -> None:
    one, other = evaluate(*split_runs, heads=("prototype",))
    assert [scores.episodes for scores in one.scores] == [scores.episodes for scores in other.scores]
    difference = other.scores[0].difference(one.scores[0])
    assert difference.mean == pytest.approx(other.scores[0].accuracy.mean - one.scores[0].accuracy.mean)
    (alone,) = evaluate(split_runs[1], heads=("prototype",))
    assert alone.scores == other.scores
    with pytest.raises(ValueError, match=r"the episodes differ"):
        one.scores[0].difference(one.scores[1])


# Of a network trained for seconds some embeddings are 0 for all images.
@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_:UserWarning")
def test_numbers_follow_from_the_embeddings_in_eval_mode(split_runs: tuple[Path, Path]) -> None:
    from sklearn.neighbors import NearestCentroid

    from kdcam.data.batches.episodes import draw_episodes

    (found,) = evaluate(split_runs[0], shots=(2,), heads=("prototype",))
    part, _ = novel_classes(recipe_of(split_runs[0]).data, progress=Silent())
    classifier = kdcam.load(split_runs[0])
    with torch.no_grad():
        embeddings = classifier.outputs(part.images.pixels.float() / 255).embedding
    episodes = draw_episodes(part.targets, ways=3, shots=2, queries=3, episodes=20, seed=0)
    assert episodes.digest == found.scores[0].episodes
    for support, query, right in zip(episodes.support, episodes.query, found.scores[0].right, strict=True):
        fitted = NearestCentroid().fit(embeddings[support].numpy(), part.targets[support].numpy())
        assert (fitted.predict(embeddings[query].numpy()) == part.targets[query].numpy()).sum() == right


def test_validation_classes_and_fine_tuning(split_runs: tuple[Path, Path]) -> None:
    (found,) = evaluate(
        split_runs[0],
        ways=2,
        shots=(1,),
        episodes=2,
        classes="validation",
        heads=("prototype",),
        fine_tune_last_stage=True,
    )
    assert found.novel is not None
    assert len(found.novel.classes) == 2
    assert [scores.name for scores in found.scores] == ["2-way 1-shot prototype", "2-way 1-shot fine-tuned"]


def test_a_folder_of_other_classes(whole_run: Path, class_folders: Callable[..., Path]) -> None:
    root = class_folders("ant", "bee", "cat")
    (found,) = kdcam.evaluate_few_shot([whole_run], settings=SMALL, root=root, device="cpu")
    assert found.novel is not None
    assert found.novel.classes == ("ant", "bee", "cat")
    with pytest.raises(RecipeError, match=r"classes \(--classes\) does nothing with root"):
        kdcam.evaluate_few_shot([whole_run], settings={"classes": "validation"}, root=root, device="cpu")
    # Brightness alone tells these apart.
    assert found.scores[0].accuracy.mean > 0.9


def test_a_network_that_is_no_run_is_asked_and_nothing_written(
    whole_run: Path, class_folders: Callable[..., Path], tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("model.safetensors", "config.json"):
        shutil.copy(whole_run / name, bare)
    root = class_folders("ant", "bee", "cat")
    found = kdcam.evaluate_few_shot([whole_run, bare], settings=SMALL, root=root, device="cpu")
    assert found[0].scores == found[1].scores
    assert not (bare / "few-shot.json").exists()
    with pytest.raises(CheckpointError, match=r"bare: holds no recipe\.json"):
        kdcam.evaluate_few_shot([bare], settings=SMALL, device="cpu")


def test_official_runs_alone_and_beside_episodes(
    whole_run: Path, split_runs: tuple[Path, Path], one_shot_folder: Path
) -> None:
    (alone,) = kdcam.evaluate_few_shot([whole_run], omniglot_runs=one_shot_folder, device="cpu")
    assert alone.novel is None
    assert [runs.name for runs in alone.one_shot] == list(alone.headline())
    with pytest.raises(
        RecipeError, match=r"ways \(--ways\), shots .* would do nothing: .*whole holds out no"
    ):
        kdcam.evaluate_few_shot([whole_run], settings=SMALL, omniglot_runs=one_shot_folder, device="cpu")
    (both,) = kdcam.evaluate_few_shot(
        [split_runs[0]], settings=SMALL, omniglot_runs=one_shot_folder, device="cpu"
    )
    assert len(both.scores) == 10
    assert both.headline()["Omniglot one-shot error prototype"]["mean"] == 0


def test_a_run_on_all_classes_needs_other_data(whole_run: Path) -> None:
    with pytest.raises(DataError, match=r"whole: was trained on all classes of digit-scenes.*--root"):
        evaluate(whole_run)


def test_runs_with_other_new_classes_are_not_compared(
    split_runs: tuple[Path, Path], whole_run: Path, tmp_path: Path, one_shot_folder: Path
) -> None:
    data = {**SCENES, "train_size": 150, "test_size": 40, "class_split": {"novel": 3, "seed": 2}}
    recipe = small_recipe(data=data, loss=[{"name": "cross_entropy"}], epochs=1)
    other = kdcam.train(recipe, output=tmp_path / "other").path
    with pytest.raises(DataError, match=r"other: has other new classes or images \(3 classes"):
        evaluate(split_runs[0], other)
    with pytest.raises(DataError, match=r"whole: was trained on all classes of its data and others were not"):
        kdcam.evaluate_few_shot(
            [split_runs[0], whole_run], settings=SMALL, omniglot_runs=one_shot_folder, device="cpu"
        )


def test_too_few_images_and_classes_are_named(split_runs: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match=r"class '\d' has \d+ images, and 1 shots \+ 500 queries"):
        evaluate(split_runs[0], queries=500)
    with pytest.raises(DataError, match=r"5 ways need 5 classes with images, and there are 3"):
        evaluate(split_runs[0], ways=5)
    with pytest.raises(RecipeError, match=r"few-shot\.ways \(--ways\): found 1"):
        evaluate(split_runs[0], ways=1)


def test_a_stop_writes_nothing(split_runs: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(split_runs[0], run, ignore=shutil.ignore_patterns("few-shot.json"))
    with pytest.raises(Interrupted, match=r"nothing was written"):
        kdcam.evaluate_few_shot([run], settings=SMALL, device="cpu", progress=Watcher(stop_after=2))
    assert not (run / "few-shot.json").exists()


def test_the_episodes_are_kept_beside_the_scores(
    split_runs: tuple[Path, Path], tmp_path: Path, one_shot_folder: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(split_runs[0], run)
    (found,) = evaluate(run, heads=("prototype",))
    kept = kdcam.read_episodes(str(run))
    assert [kept[scores.shots].digest for scores in found.scores] == [
        scores.episodes for scores in found.scores
    ]
    assert kept[2].support.shape == (20, 6)
    assert found.novel is not None
    assert int(torch.cat([drawn.query for drawn in kept.values()], 1).max()) < found.novel.images
    assert json.loads((run / "few-shot.json").read_text())["episodes_file"] == "few-shot-episodes.safetensors"
    # Without a class split only the official runs are asked.
    recipe = json.loads((run / "recipe.json").read_text())
    del recipe["recipe"]["data"]["class_split"]
    (run / "recipe.json").write_text(json.dumps(recipe))
    kdcam.evaluate_few_shot([run], omniglot_runs=one_shot_folder, device="cpu")
    assert not (run / "few-shot-episodes.safetensors").exists()


def test_no_run_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"few-shot: found no run; name one or more"):
        kdcam.evaluate_few_shot([])


@pytest.mark.parametrize("head", ["prototype", "cosine-prototype", "logistic", "baseline", "baseline++"])
def test_embeddings_that_are_not_finite_are_refused(
    split_runs: tuple[Path, Path], tmp_path: Path, head: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(split_runs[0], run)
    tensors = load_file(run / "model.safetensors")
    save_file(
        {name: one * torch.nan if one.is_floating_point() else one for name, one in tensors.items()},
        run / "model.safetensors",
        metadata=read_tensors_file(run / "model.safetensors")[1],
    )
    with pytest.raises(
        ModelError, match=r"run: features: the embeddings of \d+ of \d+ images are not finite"
    ):
        evaluate(run, heads=(head,))


def test_the_batch_size_makes_no_difference(split_runs: tuple[Path, Path]) -> None:
    one, other = (
        kdcam.evaluate_few_shot([split_runs[0]], settings=SMALL, batch_size=size, device="cpu")[0].scores
        for size in (7, 256)
    )
    for small, large in zip(one, other, strict=True):
        # Rounding may turn a query that lies between two classes.
        assert sum(abs(a - b) for a, b in zip(small.right, large.right, strict=True)) <= 1


def test_a_stop_between_batches_is_heeded(split_runs: tuple[Path, Path]) -> None:
    watcher = Watcher(stop_after=4)
    with pytest.raises(Interrupted, match=r"features: stopped, nothing was written"):
        kdcam.evaluate_few_shot([split_runs[0]], settings=SMALL, batch_size=8, device="cpu", progress=watcher)
    assert [done for task, done, _ in watcher.done if "features" in task] == [1, 2]
