"""Omniglot's official one-shot runs, asked of a network's features."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kdcam.data.batches.episodes import Episodes
from kdcam.data.batches.image_digests import images_digest
from kdcam.data.batches.resident import ResidentImages
from kdcam.data.dataset_parts import Part
from kdcam.data.datasets import batches
from kdcam.data.novel_class_images import join_parts
from kdcam.data.source_configs import OmniglotConfig
from kdcam.data.sources.omniglot import OneShotRun, omniglot_runs
from kdcam.errors import DataError
from kdcam.evaluation.few_shot.episode_heads import correct_queries
from kdcam.evaluation.few_shot.few_shot_schema import FewShotSettings, OneShotScores
from kdcam.files.digests import targets_digest
from kdcam.models.classifier import Classifier
from kdcam.runtime.progress import Progress
from kdcam.scores.embeddings import feature_table

_OFFICIAL_RUNS = 20
_OFFICIAL_CHARACTERS = 20


def one_shot_scores(
    classifier: Classifier,
    path: Path,
    settings: FewShotSettings,
    *,
    place: str,
    batch_size: int,
    progress: Progress,
) -> tuple[OneShotScores, ...]:
    """Return how many test drawings of each official run each head classifies correctly.

    Each run is an episode of one support drawing for each of 20 characters, whose queries are its 20 test drawings,
    one of each. Ways, shots, queries and episodes of ``settings`` do not count. A network of three channels gets three
    equal ones.

    Args:
        classifier: Whose features.
        path: all_runs.zip, or its folder.
        settings: The heads, and the seed of those that draw.
        place: Names the network in messages.
        batch_size: Drawings at a time.
        progress: Who watches.

    Raises ``DataError`` where the runs cannot be read, are not the 20 of 20 characters, or are not of one test drawing
    for each training drawing; ``ModelError`` where embeddings are not finite.
    """
    runs = omniglot_runs(path, image_size=classifier.image_size)
    episodes = _official_episodes(runs, path)
    drawings = join_parts([part for run in runs for part in (run.training, run.test)])
    loader = batches(
        _coloured(drawings, classifier.in_channels),
        batch_size=batch_size,
        training=False,
        config=OmniglotConfig(root=path),
        seed=0,
        device=classifier.mean.device,
    )
    task, digest = f"{place}: one-shot", _drawings_digest(drawings)
    embeddings = feature_table(classifier, loader, task=f"{task} features", progress=progress).embeddings
    found = []
    for head in settings.heads:
        head_task = f"{task} {head}"
        right = correct_queries(
            embeddings, episodes, head, seed=settings.seed, task=head_task, progress=progress
        )
        found.append(OneShotScores(head, episodes.ways, tuple(right.tolist()), digest))
    return tuple(found)


def _official_episodes(runs: Sequence[OneShotRun], path: Path) -> Episodes:
    episodes = runs_as_episodes(runs)
    if (len(runs), episodes.ways) != (_OFFICIAL_RUNS, _OFFICIAL_CHARACTERS):
        raise DataError(
            f"{path}: holds {len(runs)} runs of {episodes.ways} characters; the official ones are {_OFFICIAL_RUNS} of "
            f"{_OFFICIAL_CHARACTERS}, so fetch Omniglot's all_runs.zip again"
        )
    return episodes


def runs_as_episodes(runs: Sequence[OneShotRun]) -> Episodes:
    """Return the runs as episodes over the drawings of all runs in turn, training before test.

    Raises ``DataError`` where a run has not one test drawing for each training drawing, or other numbers than the
    first run.
    """
    ways = len(runs[0].training)
    support, query, start = list[Tensor](), list[Tensor](), 0
    for run in runs:
        answers, wanted = run.test.targets.sort().values, torch.arange(ways)
        if len(run.training) != ways or not torch.equal(answers, wanted):
            raise DataError(
                f"{run.name}: has {len(run.training)} training drawings and test drawings of "
                f"{len(answers.unique())} of them; expected {ways}, and one test drawing of each; fetch the runs again"
            )
        support.append(start + wanted)
        query.append(start + ways + run.test.targets.argsort())
        start += 2 * ways
    return Episodes(torch.stack(support), torch.stack(query), torch.arange(ways).expand(len(runs), -1))


def _drawings_digest(drawings: Part) -> str:
    # The order of the labels tells which drawings belong together.
    digests = f"{images_digest(drawings.images).sha256} {targets_digest(drawings.targets)}"
    return hashlib.sha256(digests.encode()).hexdigest()


def _coloured(part: Part, channels: int) -> Part:
    assert isinstance(part.images, ResidentImages)
    pixels = part.images.pixels.expand(-1, channels, -1, -1)
    return replace(part, images=ResidentImages(pixels, image_size=part.images.image_size))


__all__ = ["one_shot_scores", "runs_as_episodes"]
