"""How long episodes take on features found once: kdcam's, all at once, and one episode at a time by other means.

    OMP_NUM_THREADS=2 python benchmarks/few_shot_speed.py --out docs/results/few-shot-speed.json

10,000 episodes of 5 classes with 15 queries each, on features of 20 classes of 600 images (the size of miniImageNet's
novel part) of 64 and 640 numbers, as of a small residual network and of ResNet-12. The goal is under 10 s for the
nearest prototype of one shot on two cores, the draw of the episodes included. Compared in the same run: plain PyTorch
one episode after the other (as few-shot libraries do it: the episode's images drawn in Python, the features gathered,
class means, distances), and scikit-learn's NearestCentroid an episode, both on fewer episodes and counted up. Their
predictions are compared with kdcam's. The linear heads take 600 episodes. Run it on an idle machine.
"""

import argparse
import json
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from interleaved import facts
from sklearn.neighbors import NearestCentroid
from torch import Tensor

from kdcam.data.batches.episodes import Episodes, draw_episodes
from kdcam.evaluation.few_shot.episode_heads import HEADS, correct_queries, query_labels

GOAL_SECONDS = 10
EPISODES = 10_000
CLASSES, IMAGES = 20, 600
WIDTHS = (64, 640)
WAYS, QUERIES = 5, 15


def features(width: int) -> tuple[Tensor, Tensor]:
    """Return overlapping classes of positive features (N, E), as behind a ReLU, and their labels (N,)."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(CLASSES).repeat_interleave(IMAGES)
    middles = torch.randn(CLASSES, width, generator=generator)
    return (
        0.7 * middles[targets] + 2 * torch.randn(len(targets), width, generator=generator)
    ).relu(), targets


def drawn(targets: Tensor, shots: int, episodes: int) -> Episodes:
    return draw_episodes(targets, ways=WAYS, shots=shots, queries=QUERIES, episodes=episodes, seed=0)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the least time of some; the first of all warms up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def one_by_one_in_torch(embeddings: Tensor, targets: Tensor, shots: int, episodes: int) -> list[float]:
    """Sample, gather, average and compare one episode after the other."""
    of_class = [(targets == label).nonzero().flatten().tolist() for label in range(CLASSES)]
    generator = random.Random(0)
    accuracies = []
    for _ in range(episodes):
        images = [
            generator.sample(of_class[label], shots + QUERIES)
            for label in generator.sample(range(CLASSES), WAYS)
        ]
        support = embeddings[torch.tensor([image for one in images for image in one[:shots]])]
        query = embeddings[torch.tensor([image for one in images for image in one[shots:]])]
        labels = torch.arange(WAYS).repeat_interleave(shots)
        prototypes = torch.cat([support[labels == label].mean(0, keepdim=True) for label in range(WAYS)])
        predicted = (-torch.cdist(query, prototypes)).argmax(1)
        wanted = torch.arange(WAYS).repeat_interleave(QUERIES)
        accuracies.append((predicted == wanted).float().mean().item())
    return accuracies


def one_by_one_in_scikit_learn(embeddings: Tensor, episodes: Episodes) -> list[int]:
    """Return how many queries of each episode NearestCentroid tells rightly."""
    numbers = embeddings.double().numpy()
    labels = torch.arange(WAYS).repeat_interleave(episodes.shots).numpy()
    wanted = query_labels(episodes).numpy()
    right = []
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # a division by images less classes, 0 of one shot, that it does not use
        for support, query in zip(episodes.support.numpy(), episodes.query.numpy(), strict=True):
            fitted = NearestCentroid().fit(numbers[support], labels)
            right.append(int((fitted.predict(numbers[query]) == wanted).sum()))
    return right


def prototype_case(width: int, shots: int, *, total: int, few: int, repeats: int) -> dict[str, Any]:
    embeddings, targets = features(width)

    def ours() -> Tensor:
        return correct_queries(embeddings, drawn(targets, shots, total), "prototype")

    some = drawn(targets, shots, few)
    reference = one_by_one_in_scikit_learn(embeddings, some)
    found = correct_queries(embeddings, some, "prototype").tolist()
    plain = seconds(lambda: one_by_one_in_torch(embeddings, targets, shots, few), repeats)
    centroid = seconds(lambda: one_by_one_in_scikit_learn(embeddings, some), repeats)
    spent, drawing = seconds(ours, repeats), seconds(lambda: drawn(targets, shots, total), repeats)
    return {
        "width": width,
        "shots": shots,
        "episodes": total,
        "kdcam_seconds": round(spent, 3),
        "of_it_drawing_seconds": round(drawing, 3),
        "plain_pytorch_seconds": round(plain * total / few, 2),
        "nearest_centroid_seconds": round(centroid * total / few, 2),
        "others_measured_on_episodes": few,
        "episodes_with_other_counts_than_nearest_centroid": sum(
            ours != theirs for ours, theirs in zip(found, reference, strict=True)
        ),
        "mean_accuracy": round(float(ours().double().mean()) / (WAYS * QUERIES), 4),
    }


def head_cases(width: int, shots: int, *, total: int) -> dict[str, float]:
    """Return the seconds of each head."""
    embeddings, targets = features(width)
    episodes = drawn(targets, shots, total)
    return {
        head: round(seconds(lambda head=head: correct_queries(embeddings, episodes, head), 1), 3)
        for head in HEADS
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--few", type=int, default=500, help="episodes of what is measured one by one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    sizes = {"total": arguments.episodes, "few": arguments.few, "repeats": arguments.repeats}
    cases = [prototype_case(width, shots, **sizes) for width in WIDTHS for shots in (1, 5)]
    report = {
        "goal": f"{EPISODES:,} episodes of 5-way 1-shot in under {GOAL_SECONDS} s on 2 cores",
        "reached": all(case["kdcam_seconds"] < GOAL_SECONDS for case in cases if case["shots"] == 1),
        "prototype": cases,
        "seconds_of_600_episodes": {
            f"{shots}-shot, {width} features": head_cases(width, shots, total=600)
            for width in WIDTHS
            for shots in (1, 5)
        },
        **facts(),
        "command": "OMP_NUM_THREADS=2 python benchmarks/few_shot_speed.py",
    }
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
