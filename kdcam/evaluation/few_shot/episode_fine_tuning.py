"""A network's last stage trained anew in each episode, together with a linear head: one episode at a time, slow."""

from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from kdcam.data.batches.episodes import Episodes
from kdcam.data.common_config import PictureConfig
from kdcam.data.dataset_parts import Part
from kdcam.data.datasets import batches
from kdcam.data.source_configs import DataConfig
from kdcam.errors import ModelError
from kdcam.evaluation.few_shot.episode_heads import (
    HEAD_WEIGHT_DECAY,
    logistic_heads,
    query_labels,
    stop_few_shot_if_asked,
)
from kdcam.models.classifier import Classifier
from kdcam.models.layer_groups import stage_count, stage_depths
from kdcam.runtime.progress import Progress, Silent
from kdcam.settings.validation import key_and_flag

FINE_TUNED = "fine-tuned"
# All kdcam's choice; the rate is that of the linear heads.
FINE_TUNING_STEPS = 50
FINE_TUNING_RATE = 0.01
FINE_TUNING_MOMENTUM = 0.9


class EpisodeImages(NamedTuple):
    """Images by their positions, as a network on ``device`` takes them."""

    part: Part
    config: DataConfig  # how they are decoded
    device: torch.device

    def read(self, positions: Tensor) -> Tensor:
        """Return the images at ``positions`` (M,), (M, C, H, W) in [0, 1]; ``DataError`` where one is unreadable."""
        config = self.config
        if isinstance(config, PictureConfig):
            # Processes that decode would take longer to start than the few pictures to read.
            config = config.model_copy(update={"workers": 0})
        found = batches(
            self.part.subset(positions),
            batch_size=len(positions),
            training=False,
            config=config,
            seed=0,
            device=self.device,
        )
        return next(iter(found.epoch(0))).images


def fine_tuned_correct(
    classifier: Classifier,
    read: Callable[[Tensor], Tensor],
    embeddings: Tensor,
    episodes: Episodes,
    *,
    task: str = FINE_TUNED,
    progress: Progress | None = None,
) -> Tensor:
    """Return how many of each episode's queries are right once the last stage was trained on its support, (T,) int64.

    Each episode begins with the network as it is and with the logistic head of `logistic_heads` on its features
    (first the head, then both: Kumar et al. 2022, arXiv 2202.10054). Stage and head then take 50 steps of SGD on all
    support images: rate 0.01, momentum 0.9, weight decay 0.001. BatchNorm keeps its statistics, so that no query tells
    of another. The classifier is left as it was.

    Args:
        classifier: The network, on the device where it is trained.
        read: Gives the images (M, C, H, W) in [0, 1] at positions (M,).
        embeddings: (N, E) its features of all images.
        episodes: Which images.
        task: What the watcher is told this is.
        progress: Who watches.

    Raises ``ModelError`` where the network has no stages, ``Interrupted`` where the watcher asks to stop.
    """
    watcher = progress or Silent()
    network = deepcopy(classifier).eval()
    stage = _last_stage(network)
    start = [parameter.detach().clone() for parameter in stage]
    labels = query_labels(episodes)
    right = torch.empty(len(episodes.classes), dtype=torch.int64)
    for number, (support, query) in enumerate(zip(episodes.support, episodes.query, strict=True)):
        stop_few_shot_if_asked(watcher)
        with torch.no_grad():
            for parameter, before in zip(stage, start, strict=True):
                parameter.copy_(before)
        head = _starting_head(embeddings[support], episodes, classifier.mean.device)
        _train(network, stage, head, read(support), episodes)
        with torch.no_grad():
            logits = linear(network.outputs(read(query)).embedding, *head)
        right[number] = int((logits.argmax(1).cpu() == labels).sum())
        watcher.advance(task, number + 1, len(right))
    return right


def _last_stage(classifier: Classifier) -> list[nn.Parameter]:
    """Return the parameters of the last stage, the only ones that ask for a gradient from now on."""
    stages, depths = stage_count(classifier.network), stage_depths(classifier.network)
    if stages < 1:
        raise ModelError(
            f"few-shot.{key_and_flag('fine_tune_last_stage')}: {classifier.config.name!r} tells no stages apart; leave "
            "it out, or take another network"
        )
    found = []
    for name, parameter in classifier.network.named_parameters():
        parameter.requires_grad_(depths[name] == stages)
        if depths[name] == stages:
            found.append(parameter)
    return found


def _starting_head(embeddings: Tensor, episodes: Episodes, device: torch.device) -> tuple[Tensor, Tensor]:
    solved = logistic_heads(embeddings.unflatten(0, (1, episodes.ways, episodes.shots)))
    weight, bias = (part[0].float().to(device).requires_grad_() for part in solved)
    return weight, bias


def _train(
    network: Classifier,
    stage: list[nn.Parameter],
    head: tuple[Tensor, Tensor],
    images: Tensor,
    episodes: Episodes,
) -> None:
    targets = torch.arange(episodes.ways, device=images.device).repeat_interleave(episodes.shots)
    optimizer = torch.optim.SGD(
        [*stage, *head], lr=FINE_TUNING_RATE, momentum=FINE_TUNING_MOMENTUM, weight_decay=HEAD_WEIGHT_DECAY
    )
    with torch.enable_grad():
        for _ in range(FINE_TUNING_STEPS):
            optimizer.zero_grad()
            cross_entropy(linear(network.outputs(images).embedding, *head), targets).backward()
            optimizer.step()


__all__ = ["FINE_TUNED", "EpisodeImages", "fine_tuned_correct"]
