"""What distillation methods cost: a training step relative to plain kd, resnet56 -> resnet20, in one run.

    python benchmarks/distillation_cost.py --out docs/results/distillation-cost.json

Batch 64 of 32 pixels, 100 classes, 50,000 training images (crd's memory), live teacher with folded BatchNorm; steps of
all methods in turn (interleaved.py). "student alone" is the step without any teacher. Run it on an idle machine.
"""

import argparse
import json
from pathlib import Path

import torch
from interleaved import facts, rows, timed

from kdcam.data.batches.batch import Batch
from kdcam.losses.loss import Objective, Shapes, needs_of
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier, teacher_outputs
from kdcam.models.inspection import widths
from kdcam.models.model_config import ModelConfig
from kdcam.models.weight_folding import freeze_and_fold
from kdcam.optim.optimizer import SgdConfig, build_optimizer
from kdcam.recipe.methods import method_losses, method_names
from kdcam.recipe.train_recipe import read_recipe
from kdcam.training.engine import Trainable

BASE, ALONE = "kd", "student alone"
CLASSES, IMAGES, BATCH = 100, 50_000, 64


def build(name: str) -> Classifier:
    torch.manual_seed(0)
    return build_classifier(ModelConfig(name=name), num_classes=CLASSES, in_channels=3, image_size=32)


class Trainer:
    """A student in training by one method on one fixed batch."""

    def __init__(self, method: str, teacher: Classifier, batch: Batch, labels: torch.Tensor) -> None:
        table = {"data": {"name": "cifar100"}, "loss": [{"name": "cross_entropy"}]}
        if method != ALONE:
            table |= {"loss": method_losses(method), "teacher": {"checkpoint": "-"}}
        losses = read_recipe(table, source=method).loss
        student = build("kdcam:resnet20")
        shapes = Shapes("single-label", CLASSES, labels, widths(student), widths(teacher))
        self.model = Trainable(student, Objective(losses, shapes)).train()
        self.optimizer = build_optimizer(SgdConfig(lr=0.001), student, self.model.objective)
        self.needs, self.teacher, self.batch = needs_of(losses), teacher, batch

    def step(self) -> None:
        """Do one training step, the teacher's part included."""
        self.optimizer.zero_grad(set_to_none=True)
        taught = [teacher_outputs(self.teacher, self.batch.images, self.batch.targets, self.needs)]
        self.model(self.batch, 0.5, taught).total.backward()
        self.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    labels = torch.randint(CLASSES, (IMAGES,), generator=torch.Generator().manual_seed(0))
    images = torch.rand(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    batch = Batch(images, labels[:BATCH], torch.arange(BATCH))
    teacher = freeze_and_fold(build("kdcam:resnet56").eval()).classifier
    trainers = {name: Trainer(name, teacher, batch, labels) for name in (ALONE, *method_names())}
    times = timed({name: trainer.step for name, trainer in trainers.items()}, steps=arguments.steps)
    result = {
        "teacher": "kdcam:resnet56",
        "student": "kdcam:resnet20",
        "batch_size": BATCH,
        "images": IMAGES,
        "steps": arguments.steps,
        **facts(),
        "command": "python benchmarks/distillation_cost.py",
        "methods": rows(times, BASE),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
