"""What the losses cost: training step time with cross_entropy alone and with a loss added, in one run.

    python benchmarks/loss_cost.py --out docs/results/loss-cost.json
    python benchmarks/loss_cost.py --out docs/results/loss-cost.json --case 1   # this one anew, the others as they are

Steps of all variants of a case are interleaved in random order, so that a change of the machine's speed meets all
alike; medians over all steps and a 95 % bootstrap interval of each ratio of medians are printed. Run it on an idle
machine. Cases: kdcam:resnet20 at 32 pixels; the same with 200 feature channels (for mutual_channel); resnet18 at 224
pixels. Losses on channel attention or on a head are compared with cross_entropy without the block and with a linear
layer, and the block or the head alone is shown.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from interleaved import facts, rows, timed

from kdcam.data.batches.batch import Batch
from kdcam.losses import LOSSES
from kdcam.losses.cross_entropy import CrossEntropyConfig
from kdcam.losses.loss import LossConfig, Objective, Shapes
from kdcam.models.build import build_classifier
from kdcam.models.inspection import widths
from kdcam.models.model_config import HeadKind, ModelConfig
from kdcam.optim.optimizer import SgdConfig, build_optimizer
from kdcam.training.engine import Trainable

BASE = "cross_entropy"


class Variant(NamedTuple):
    """What a training step consists of."""

    losses: tuple[str, ...] = ()  # beside cross_entropy, with their defaults, switched on
    attention: bool = False
    keys: tuple[tuple[str, Any], ...] = ()
    head: HeadKind = "linear"
    alone: bool = False  # in the place of cross_entropy


PLAIN = {name: Variant((name,)) for name in ("cam", "hnc_mse", "hnc_kd", "include_exclude")}
ATTENTION = {
    "attention block alone": Variant(attention=True),
    "attention block + channel_correlation": Variant(("channel_correlation",), attention=True),
    "attention block + channel_correlation, class means": Variant(
        ("channel_correlation",), attention=True, keys=(("comparison", "class-means"),)
    ),
}
COMPARED = {
    **{name: Variant((name,)) for name in ("center", "ical", "fical", "max_entropy")},
    **{
        name: Variant((name,), alone=True)
        for name in (
            "focal",
            "generalized_cross_entropy",
            "truncated_generalized_cross_entropy",
            "guided_complement_entropy",
            "anchor",
            "gradient_boosting_cross_entropy",
            "lsoftmax",
        )
    },
    "cross_entropy, class-balanced": Variant(
        ("cross_entropy",), keys=(("class_balance_beta", 0.999),), alone=True
    ),
    "cosine head alone": Variant(head="cosine"),
    **{name: Variant((name,), head="cosine", alone=True) for name in ("normface", "cosface", "arcface")},
    "unit-weight head alone": Variant(head="unit-weight"),
    "asoftmax": Variant(("asoftmax",), head="unit-weight", alone=True),
    "gaussian head alone": Variant(head="gaussian"),
    "lgm": Variant(("lgm",), head="gaussian", alone=True),
}
MUTUAL = {"mutual_channel": Variant(("mutual_channel",))}


class Case(NamedTuple):
    """A network and its images, on which variants are compared."""

    network: str
    image_size: int
    batch_size: int
    feature_channels: int | None
    variants: dict[str, Variant]


CASES = (
    Case("kdcam:resnet20", 32, 128, None, {BASE: Variant(), **PLAIN, **ATTENTION}),
    Case("kdcam:resnet20", 32, 128, None, {BASE: Variant(), **COMPARED}),
    Case("kdcam:resnet20", 32, 128, 200, {BASE: Variant(), **MUTUAL}),
    Case("resnet18", 224, 8, None, {BASE: Variant(), **PLAIN, **ATTENTION, **MUTUAL}),
)


class Trainer:
    """A network in training on one fixed batch."""

    def __init__(self, case: Case, variant: Variant, batch: Batch, num_classes: int) -> None:
        torch.manual_seed(0)
        config = ModelConfig(
            name=case.network,
            feature_channels=case.feature_channels,
            channel_attention=variant.attention,
            head=variant.head,
        )
        size = case.image_size
        student = build_classifier(config, num_classes=num_classes, in_channels=3, image_size=size)
        added = [
            LOSSES[name].model_validate({"name": name, "start": 0, **dict(variant.keys)})
            for name in variant.losses
        ]
        losses: list[LossConfig] = [*([] if variant.alone else [CrossEntropyConfig()]), *added]
        shapes = Shapes("single-label", num_classes, batch.targets, widths(student), None)
        self.model = Trainable(student, Objective(losses, shapes)).train()
        self.optimizer = build_optimizer(SgdConfig(lr=0.01), self.model.student, self.model.objective)
        self.batch = batch

    def step(self) -> None:
        """Do one training step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.model(self.batch, 0.5).total.backward()
        self.optimizer.step()


def measure(case: Case, *, steps: int, num_classes: int) -> dict[str, Any]:
    """Return the median times and ratios of a case."""
    torch.manual_seed(0)
    shape = (case.batch_size, 3, case.image_size, case.image_size)
    images = torch.rand(shape).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(num_classes, (case.batch_size,))
    batch = Batch(images, targets, torch.arange(case.batch_size))
    trainers = {name: Trainer(case, variant, batch, num_classes) for name, variant in case.variants.items()}
    times = timed({name: trainer.step for name, trainer in trainers.items()}, steps=steps)
    return {
        "network": case.network,
        "image_size": case.image_size,
        "batch_size": case.batch_size,
        "feature_channels": case.feature_channels,
        "classes": num_classes,
        "steps": steps,
        **facts(),
        "variants": rows(times, BASE),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--case", type=int, choices=range(len(CASES)), help="measure this one alone")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.case is not None and arguments.out is None:
        parser.error("--case needs --out, the file whose other cases stay")
    kept = json.loads(arguments.out.read_text())["cases"] if arguments.case is not None else []
    todo = range(len(CASES)) if arguments.case is None else (arguments.case,)
    for index in todo:
        found = measure(CASES[index], steps=arguments.steps, num_classes=arguments.classes)
        kept[index : index + 1] = [found]
    text = json.dumps({"cases": kept, "command": "python benchmarks/loss_cost.py"}, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
