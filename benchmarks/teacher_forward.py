"""What freezing a teacher saves: time of its forward pass before and after BatchNorms are folded, in one run.

    python benchmarks/teacher_forward.py --out docs/results/teacher-forward.json

Passes of both are interleaved in random order, so that a change of the machine's speed meets both alike; medians over
all passes and a 95 % bootstrap interval of their ratio are printed, with the largest difference of any output as a
share of its magnitude. Run it on an idle machine. The networks have random weights, and BatchNorm statistics
that are shifted at random.
"""

import argparse
import copy
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from interleaved import facts, rows, timed
from torch import Tensor, nn

from kdcam.models import Classifier, ModelConfig, build_classifier, teacher_outputs
from kdcam.models.weight_folding import freeze_and_fold

NEEDS = {
    "logits": frozenset({"teacher.logits"}),
    "logits, map and stages": frozenset({"teacher.logits", "teacher.feature_map", "teacher.stages"}),
}


class Case(NamedTuple):
    """A teacher and its images."""

    network: str
    image_size: int
    batch_size: int


CASES = (Case("kdcam:resnet56", 32, 64), Case("kdcam:resnet32x4", 32, 64), Case("resnet50", 224, 8))


def build(case: Case, *, classes: int) -> Classifier:
    """Return a teacher in eval mode, whose BatchNorms do not fold to almost nothing as fresh ones would."""
    torch.manual_seed(0)
    config = ModelConfig(name=case.network)
    teacher = build_classifier(config, num_classes=classes, in_channels=3, image_size=case.image_size)
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 0.1 * torch.rand(module.num_features)
            module.running_var += 0.5 * torch.rand(module.num_features)
    return teacher.eval()


def largest_difference(before: Classifier, after: Classifier, images: Tensor) -> dict[str, float]:
    """Return the largest difference of each output, as a share of the output's largest magnitude."""
    with torch.no_grad():
        one, other = (teacher.outputs(images, stages=True) for teacher in (before, after))
    named = {
        "logits": (one.logits, other.logits),
        "embedding": (one.embedding, other.embedding),
        "feature_map": (one.feature_map, other.feature_map),
        **{f"stage {place}": pair for place, pair in enumerate(zip(one.stages, other.stages, strict=True))},
    }
    return {name: float((new - old).abs().max() / old.abs().max()) for name, (old, new) in named.items()}


def compare(
    teachers: dict[str, Classifier], images: Tensor, needs: frozenset[str], steps: int
) -> dict[str, Any]:
    """Return the median times of what a training step asks of each teacher, and their ratio."""
    targets = torch.zeros(len(images), dtype=torch.int64)
    jobs = {
        name: partial(teacher_outputs, teacher, images, targets, needs) for name, teacher in teachers.items()
    }
    return rows(timed(jobs, steps=steps), "before")


def measure(case: Case, *, steps: int, classes: int) -> dict[str, Any]:
    """Return times, ratios and differences of a case."""
    torch.manual_seed(0)
    shape = (case.batch_size, 3, case.image_size, case.image_size)
    images = torch.rand(shape).contiguous(memory_format=torch.channels_last)
    before = build(case, classes=classes)
    frozen = freeze_and_fold(copy.deepcopy(before))
    teachers = {"before": before, "after": frozen.classifier}
    return {
        **case._asdict(),
        "classes": classes,
        "steps": steps,
        "folded": frozen.folded,
        "reason": frozen.reason,
        "largest_difference": largest_difference(before, frozen.classifier, images),
        "times": {name: compare(teachers, images, needs, steps) for name, needs in NEEDS.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    report = {
        "cases": [measure(case, steps=arguments.steps, classes=arguments.classes) for case in CASES],
        **facts(),
        "command": "python benchmarks/teacher_forward.py",
    }
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
