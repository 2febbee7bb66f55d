"""evaluate_few_shot: runs asked about classes that they have never seen, and the file of the episodes asked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.batch import EVALUATION_BATCH
from kdcam.data.batches.episodes import Episodes, draw_episodes
from kdcam.data.datasets import batches
from kdcam.errors import CheckpointError, DataError, RecipeError
from kdcam.evaluation.few_shot.episode_classes import (
    UnseenClasses,
    check_unseen,
    content_digest,
    has_unseen_classes,
    unseen_in_folder,
    unseen_of_split,
)
from kdcam.evaluation.few_shot.episode_fine_tuning import FINE_TUNED, EpisodeImages, fine_tuned_correct
from kdcam.evaluation.few_shot.episode_heads import correct_queries, stop_few_shot_if_asked
from kdcam.evaluation.few_shot.few_shot_schema import (
    EpisodeScores,
    FewShotReport,
    FewShotSettings,
    NovelImages,
    OneShotScores,
    few_shot_settings,
    refuse_without_episodes,
    refuse_without_split,
)
from kdcam.evaluation.few_shot.omniglot_one_shot import one_shot_scores
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.digests import targets_digest, weights_digest
from kdcam.files.json_files import write_json
from kdcam.files.paths import exists, expanded
from kdcam.models.classifier import Classifier
from kdcam.models.weights.safetensors_files import read_tensors, tensor_bytes
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runs.open_run import Weights, load, recipe_of
from kdcam.runs.picture_record import recorded_digest
from kdcam.runs.run_data import with_data_locations
from kdcam.runs.run_files import EPISODES_FILE, FEW_SHOT_FILE, RECIPE_FILE
from kdcam.runtime.progress import Progress, Silent
from kdcam.scores.embeddings import FeatureTable, feature_table
from kdcam.settings.messages import reason_text
from kdcam.settings.validation import key_and_flag


class _Plan(NamedTuple):
    """What is done to every run, and how."""

    settings: FewShotSettings
    weights: Weights
    root: Path | None
    one_shot_runs: Path | None
    batch_size: int
    data: Mapping[str, Any] | None
    rest: bool
    progress: Progress


class _Opened(NamedTuple):
    path: Path
    classifier: Classifier
    unseen: UnseenClasses | None  # None: no episodes are drawn


# What few-shot numbers are means over: docs/decisions/019.
def evaluate_few_shot(
    runs: Sequence[str | Path],
    *,
    settings: Mapping[str, Any] | FewShotSettings | None = None,
    root: str | Path | None = None,
    omniglot_runs: str | Path | None = None,
    weights: Weights = "selected",
    batch_size: int = EVALUATION_BATCH,
    device: str = "auto",
    data: Mapping[str, Any] | None = None,
    rest: bool = False,
    progress: Progress | None = None,
) -> list[FewShotReport]:
    """Return how well runs tell new classes apart from a few images each, and write few-shot.json into their folders.

    The features of each image are found once, in eval mode; episodes are drawn from the seed alone, the same for all
    runs, so that their accuracies may be compared episode by episode (``differences`` of two reports). Beside
    few-shot.json the episodes themselves are kept: `kdcam.read_episodes` reads them.

    Args:
        runs: Run folders; with ``root`` or ``omniglot_runs`` also files, timm folders and names of networks with
            published weights, as `kdcam.load` takes them; nothing is written beside these.
        settings: Keys as `kdcam.evaluation.few_shot.few_shot_schema.FewShotSettings` takes them: ways, shots, queries,
            episodes, seed, classes, heads, fine_tune_last_stage. What would do nothing is refused.
        root: A folder of class folders, none of a class that a run was trained on; by default the classes that the
            runs' ``[data.class_split]`` held out.
        omniglot_runs: Omniglot's all_runs.zip or its folder: the 20 official one-shot runs are asked, too. Alone, where
            there is neither ``root`` nor a class split.
        weights: Which epoch's weights of each run.
        batch_size: Images at a time; but for rounding the result does not depend on it.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        data: Keys of [data] that say where the files of the runs' data lie now; see `kdcam.runs.open_run.load_run`.
        rest: Where pictures of a run are gone or changed, those that are left are taken; else it is refused.
        progress: Who watches.

    Raises:
        RecipeError: A setting is wrong, or no run is named.
        CheckpointError: A folder holds no run, or few-shot.json cannot be written.
        DataError: There are no classes that a run, and what it learned from, has not seen, too few of them or of their
            images, or an image cannot be read.
        ModelError: Embeddings are not finite.
        Interrupted: The watcher asked to stop; nothing is written.
    """
    checked = settings if isinstance(settings, FewShotSettings) else few_shot_settings(settings or {})
    watcher = progress or Silent()
    plan = _Plan(checked, weights, _path(root), _path(omniglot_runs), batch_size, data, rest, watcher)
    if not runs:
        raise RecipeError("few-shot: found no run; name one or more run folders")
    if root is not None:
        refuse_without_split(checked)
    opened = _open_runs([Path(run) for run in runs], plan, device)
    episodes = _draw_episodes(opened, checked)
    found = [_evaluate_run(one, episodes, plan) for one in opened]
    for report in found:
        _write(report, episodes)
    return found


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else expanded(given)


def _open_runs(runs: Sequence[Path], plan: _Plan, device: str) -> list[_Opened]:
    """Return all runs with their images: a wrong last one is refused before the first is asked."""
    opened, shared = list[_Opened](), dict[str, UnseenClasses]()
    for path in runs:
        # With data of its own any network will do, that of a run or not.
        given = plan.root is not None or plan.one_shot_runs is not None
        recipe = _recipe(path, needed=not given)
        classifier = load(path, weights=plan.weights, device=device)
        unseen = None
        if plan.root is not None or has_unseen_classes(recipe) or plan.one_shot_runs is None:
            unseen = _unseen(path, classifier, recipe, plan, shared)
            check_unseen(unseen, path, progress=plan.progress)
        opened.append(_Opened(path, classifier, unseen))
    _check_same_images(opened)
    if opened[0].unseen is None:
        refuse_without_episodes(plan.settings, str(opened[0].path))
    return opened


def _recipe(path: Path, *, needed: bool) -> TrainRecipe | None:
    """Return the recipe of a run; None: a network that is no run."""
    if exists(path / RECIPE_FILE):
        return recipe_of(path)
    if needed:
        raise CheckpointError(
            f"{path}: holds no {RECIPE_FILE}, so it is no run folder; name one that `kdcam train` made, or, for any "
            f"network, a folder of new classes ({key_and_flag('root')})"
        )
    return None


def _unseen(
    path: Path,
    classifier: Classifier,
    recipe: TrainRecipe | None,
    plan: _Plan,
    shared: dict[str, UnseenClasses],
) -> UnseenClasses:
    """Return the images of new classes; runs that take the same ones share them in ``shared``."""
    if plan.root is not None:
        key = f"{plan.root} {classifier.image_size} {classifier.in_channels}"
        if key not in shared:
            shared[key] = unseen_in_folder(plan.root, classifier, progress=plan.progress)
        return shared[key]
    assert recipe is not None
    if not has_unseen_classes(recipe):
        raise DataError(
            f"{path}: was trained on all classes of {recipe.data.name}, so there are none that it has not seen; name a "
            "folder of others (--root), or train with a class split ([data.class_split])"
        )
    learned = classifier.label_names
    key = f"{recipe.data.model_dump_json()} {learned} {recorded_digest(path)}"
    if key not in shared:
        config = with_data_locations(recipe.data, plan.data, path)
        shared[key] = unseen_of_split(
            path, config, plan.settings.classes, learned, rest=plan.rest, progress=plan.progress
        )
    return shared[key]


def _check_same_images(opened: Sequence[_Opened]) -> None:
    first = opened[0]
    for other in opened[1:]:
        one, same = first.unseen, other.unseen
        if (one is None) != (same is None):
            without = first if one is None else other
            raise DataError(
                f"{without.path}: was trained on all classes of its data and others were not, so they cannot be asked "
                "the same; name a folder of new classes (--root), or ask them one by one"
            )
        if one is None or same is None:
            continue
        if one.label_names != same.label_names or not torch.equal(one.part.targets, same.part.targets):
            raise DataError(
                f"{other.path}: has other new classes or images ({len(same.label_names)} classes, "
                f"{len(same.part)} images) than {first.path} ({len(one.label_names)} classes, {len(one.part)} images), "
                "so they cannot be asked the same; name one folder for all (--root), or ask them one by one"
            )


def _draw_episodes(opened: Sequence[_Opened], settings: FewShotSettings) -> dict[int, Episodes]:
    """Return the episodes for each number of shots, of all runs; none where there are no new classes."""
    unseen = opened[0].unseen
    if unseen is None:
        return {}
    return {
        shots: draw_episodes(
            unseen.part.targets,
            ways=settings.ways,
            shots=shots,
            queries=settings.queries,
            episodes=settings.episodes,
            seed=settings.seed,
            label_names=unseen.label_names,
        )
        for shots in settings.shots
    }


def _evaluate_run(one: _Opened, episodes: Mapping[int, Episodes], plan: _Plan) -> FewShotReport:
    stop_few_shot_if_asked(plan.progress)
    one_shot: tuple[OneShotScores, ...] = ()
    if plan.one_shot_runs is not None:  # first: where these are broken it is known before the longer part
        one_shot = one_shot_scores(
            one.classifier,
            plan.one_shot_runs,
            plan.settings,
            place=str(one.path),
            batch_size=plan.batch_size,
            progress=plan.progress,
        )
    novel, scores = None, list[EpisodeScores]()
    if one.unseen is not None:
        table = _features(one, one.unseen, plan)
        novel = _novel_images(one.unseen)
        for drawn in episodes.values():
            scores += _head_scores(one, one.unseen, table, drawn, plan)
    digest = weights_digest(one.classifier.network)
    return FewShotReport(one.path, digest, plan.weights, plan.settings, novel, tuple(scores), one_shot)


def _novel_images(unseen: UnseenClasses) -> NovelImages:
    part = unseen.part
    digests = (targets_digest(part.targets), content_digest(part))
    return NovelImages(unseen.source, unseen.label_names, len(part), *digests)


def _features(one: _Opened, unseen: UnseenClasses, plan: _Plan) -> FeatureTable:
    loader = batches(
        unseen.part,
        batch_size=plan.batch_size,
        training=False,
        config=unseen.config,
        seed=0,
        device=one.classifier.mean.device,
    )
    return feature_table(one.classifier, loader, task=f"{one.path}: features", progress=plan.progress)


def _head_scores(
    one: _Opened, unseen: UnseenClasses, table: FeatureTable, drawn: Episodes, plan: _Plan
) -> list[EpisodeScores]:
    task, found = f"{one.path}: {drawn.shots}-shot", dict[str, Tensor]()
    for head in plan.settings.heads:
        found[head] = correct_queries(
            table.embeddings,
            drawn,
            head,
            seed=plan.settings.seed,
            task=f"{task} {head}",
            progress=plan.progress,
        )
    if plan.settings.fine_tune_last_stage:
        images = EpisodeImages(unseen.part, unseen.config, one.classifier.mean.device)
        found[FINE_TUNED] = fine_tuned_correct(
            one.classifier,
            images.read,
            table.embeddings,
            drawn,
            task=f"{task} {FINE_TUNED}",
            progress=plan.progress,
        )
    sizes = (drawn.ways, drawn.shots, drawn.queries, drawn.digest)
    return [EpisodeScores(head, *sizes, tuple(right.tolist())) for head, right in found.items()]


def _write(report: FewShotReport, episodes: Mapping[int, Episodes]) -> None:
    if exists(report.run / RECIPE_FILE):
        write_episodes(report.run, episodes)
        write_json(report.run / FEW_SHOT_FILE, report.to_json())


def write_episodes(folder: Path, episodes: Mapping[int, Episodes]) -> None:
    """Write the episodes of each number of shots beside few-shot.json; without any, the file of earlier ones goes.

    Three tensors each, int32: ``1-shot/support`` (T, ways * shots), ``1-shot/query`` (T, ways * queries), positions of
    images in the order of novel.targets, and ``1-shot/classes`` (T, ways), positions in novel.classes. Their SHA-256
    stands with each of the scores.
    """
    tensors: dict[str, Tensor] = {}
    for shots, drawn in episodes.items():
        for name, values in drawn._asdict().items():
            tensors[f"{shots}-shot/{name}"] = values.to(torch.int32)
    if tensors:
        write_atomically(folder / EPISODES_FILE, tensor_bytes(tensors, {}))
        return
    try:
        (folder / EPISODES_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{folder / EPISODES_FILE}: cannot be removed ({reason_text(error)}); remove it yourself"
        ) from error


def read_episodes(run: str | Path) -> dict[int, Episodes]:
    """Return the episodes of a run's few-shot.json by their number of shots.

    Positions in ``classes`` count along few-shot.json's novel.classes; those in ``support`` and ``query`` along the
    images, in the order of the held-out classes' data or, with a root, of its class folders and their file names.

    Args:
        run: The run folder, after `kdcam.evaluate_few_shot` or ``kdcam few-shot``.

    Returns:
        `kdcam.data.batches.episodes.Episodes` by shots: ``read_episodes("runs/base-0")[5].support`` is (T, ways * 5).

    Raises ``CheckpointError`` where there is no such file, or it is damaged.
    """
    folder = expanded(run)
    tensors = read_tensors(folder / EPISODES_FILE)
    try:
        return {
            int(name.partition("-")[0]): Episodes(
                *(tensors[f"{name.partition('/')[0]}/{part}"].long() for part in Episodes._fields)
            )
            for name in sorted(tensors)
            if name.endswith("/support")
        }
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder / EPISODES_FILE}: is of another layout ({error}); ask the run anew (kdcam few-shot)"
        ) from None


__all__ = [
    "evaluate_few_shot",
    "read_episodes",
    "write_episodes",
]
