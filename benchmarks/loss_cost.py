"""What CAM-loss costs: training step time with cross_entropy alone and with cam added, in one run.

    python benchmarks/loss_cost.py --out docs/results/loss-cost.json

Steps of both are interleaved in random order, so that a change of the machine's speed meets both alike; medians
over all steps and a 95 % bootstrap interval of the ratio of medians are printed. Run it on an idle machine.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from kdcam.data.batches import Batch
from kdcam.engine import Trainable
from kdcam.losses.cam import CamLossConfig
from kdcam.losses.cross_entropy import CrossEntropyConfig
from kdcam.losses.loss import LossConfig, Objective, Shapes
from kdcam.machine import describe_machine, package_versions
from kdcam.models.build import ModelConfig, build_classifier
from kdcam.models.classifier import widths
from kdcam.optim import SgdConfig, build_optimizer

LOSSES: dict[str, list[LossConfig]] = {
    "cross_entropy": [CrossEntropyConfig()],
    "cross_entropy + cam": [CrossEntropyConfig(), CamLossConfig(start=0.0)],
}
WARM_UP_STEPS = 5


class Trainer:
    """A network in training on one fixed batch."""

    def __init__(self, losses: list[LossConfig], batch: Batch, num_classes: int) -> None:
        torch.manual_seed(0)
        size = batch.images.shape[-1]
        config = ModelConfig(name="kdcam:resnet20")
        student = build_classifier(config, num_classes=num_classes, in_channels=3, image_size=size)
        shapes = Shapes("single-label", num_classes, batch.targets, widths(student), None)
        self.model = Trainable(student, Objective(losses, shapes)).train()
        self.optimizer = build_optimizer(SgdConfig(lr=0.01), self.model)
        self.batch = batch

    def step_seconds(self) -> float:
        """Do one training step and return how long it took."""
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        self.model(self.batch, 0.5, None).total.backward()
        self.optimizer.step()
        return time.perf_counter() - start


def interval(base: np.ndarray, other: np.ndarray, rounds: int = 5000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the ratio of medians."""
    generator = np.random.default_rng(0)
    draws = [
        np.median(generator.choice(other, len(other))) / np.median(generator.choice(base, len(base)))
        for _ in range(rounds)
    ]
    return tuple(np.percentile(draws, [2.5, 97.5]).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images = torch.rand(arguments.batch_size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(arguments.classes, (arguments.batch_size,))
    batch = Batch(images, targets, torch.arange(arguments.batch_size))
    trainers = {name: Trainer(losses, batch, arguments.classes) for name, losses in LOSSES.items()}
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    order = np.random.default_rng(0)
    for step in range(WARM_UP_STEPS + arguments.steps):
        for name in order.permutation(list(trainers)):
            spent = trainers[name].step_seconds()
            if step >= WARM_UP_STEPS:
                seconds[name].append(spent)
    times = {name: np.array(values) for name, values in seconds.items()}
    base, other = times["cross_entropy"], times["cross_entropy + cam"]
    low, high = interval(base, other)
    result = {
        "network": "kdcam:resnet20, 32 px",
        "batch_size": arguments.batch_size,
        "classes": arguments.classes,
        "steps": arguments.steps,
        "threads": torch.get_num_threads(),
        "median_milliseconds": {name: round(1e3 * float(np.median(v)), 3) for name, v in times.items()},
        "ratio": round(float(np.median(other) / np.median(base)), 4),
        "interval_95": [round(low, 4), round(high, 4)],
        "machine": describe_machine(),
        "versions": package_versions(),
        "command": "python benchmarks/loss_cost.py",
    }
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
