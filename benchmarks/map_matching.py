"""docs/results/map-matching.json: what matching class activation maps adds beside kd, and why.

    python benchmarks/map_matching.py --runs runs/distillation-table --jobs 2

Variants of matching the maps of resnet20 and resnet8 (teacher and images of distillation_table.py, to be run first):
weight, start and end, size of the maps, normalisation, whose maps. One seed (100), 20 epochs, scored on the validation
and the test part; the teacher's maps of 4 views of each image are made once and held in memory.
"""

import argparse
import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from distillation_table import SMALL
from torch import Tensor

import kdcam
from kdcam.cam.maps import caam, class_cams, map_similarity, minmax_normalize
from kdcam.data.batches.augmentation import augment_batch
from kdcam.data.batches.resident import to_float
from kdcam.data.datasets import load_data
from kdcam.losses.cam_kd import cam_kd_loss
from kdcam.losses.kd import kd_loss
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier, Outputs
from kdcam.models.model_config import ModelConfig
from kdcam.runtime.machine import describe_machine, package_versions
from kdcam.runtime.seeding import seeded_generator

VIEWS, EPOCHS, BATCH, LEARNING_RATE, SEED, TEMPERATURE = 4, 20, 64, 0.05, 100, 4.0

Match = Callable[[Outputs, Tensor, Tensor, Tensor], Tensor]
"""A loss of the student's outputs, its class maps (N, K, H, W), the teacher's, and the labels."""


class Variant(NamedTuple):
    """Weights of cross_entropy and kd, and a map-matching term with its weight and the part of the run it is on."""

    labels: float
    kd: float
    weight: float = 0.0
    match: Match | None = None
    start: float = 0.0
    end: float = 1.0


def pooled(maps: Tensor, grid: int | None) -> Tensor:
    return maps if grid is None else F.adaptive_avg_pool2d(maps, grid)


def of_label(cams: Tensor, labels: Tensor) -> Tensor:
    return cams[torch.arange(len(labels)), labels]


def standardised(maps: Tensor) -> Tensor:
    rows = maps.flatten(-2)
    return (rows - rows.mean(-1, keepdim=True)) / (rows.std(-1, keepdim=True) + 1e-6)


def caam_cam(grid: int | None = None) -> Match:
    """The paper's: the student's channel sum against the teacher's map of the label, both min-max normalised."""

    def loss(outputs: Outputs, _: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
        assert outputs.feature_map is not None
        pair = pooled(caam(outputs.feature_map), grid), pooled(of_label(taught, labels), grid)
        return (minmax_normalize(pair[0]) - minmax_normalize(pair[1])).abs().mean()

    return loss


def caam_standardised(outputs: Outputs, _: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
    assert outputs.feature_map is not None
    return (standardised(caam(outputs.feature_map)) - standardised(of_label(taught, labels))).pow(2).mean()


def label_cam(_: Outputs, cams: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
    return (
        (minmax_normalize(of_label(cams, labels)) - minmax_normalize(of_label(taught, labels))).abs().mean()
    )


def all_standardised(_: Outputs, cams: Tensor, taught: Tensor, __: Tensor) -> Tensor:
    return (standardised(cams) - standardised(taught)).pow(2).mean()


def likely_standardised(_: Outputs, cams: Tensor, taught: Tensor, __: Tensor) -> Tensor:
    likely = (taught.mean((2, 3)) / TEMPERATURE).softmax(-1)
    return (likely * (standardised(cams) - standardised(taught)).pow(2).mean(-1)).sum(-1).mean()


def all_centred(_: Outputs, cams: Tensor, taught: Tensor, __: Tensor) -> Tensor:
    one, other = (maps - maps.mean((2, 3), keepdim=True) for maps in (cams, taught))
    return (one - other).pow(2).mean()


def in_cells(*grids: int) -> Match:
    """The sum over grids of kd in each cell."""

    def loss(_: Outputs, cams: Tensor, taught: Tensor, __: Tensor) -> Tensor:
        return torch.stack(
            [cam_kd_loss(pooled(cams, g), pooled(taught, g), temperature=TEMPERATURE) for g in grids]
        ).sum()

    return loss


def scale_decoupled(*grids: int) -> Match:
    """`in_cells`, with cells counted twice where the teacher says another class than in the whole."""

    def loss(_: Outputs, cams: Tensor, taught: Tensor, __: Tensor) -> Tensor:
        total = cams.new_zeros(())
        for grid in grids:
            one, other = (pooled(m, grid).flatten(2).transpose(1, 2).flatten(0, 1) for m in (cams, taught))
            whole = taught.mean((2, 3)).argmax(-1).repeat_interleave(grid**2)
            apart = F.kl_div(
                (one / TEMPERATURE).log_softmax(-1), (other / TEMPERATURE).softmax(-1), reduction="none"
            )
            factor = torch.where(other.argmax(-1) == whole, 1.0, 2.0)
            total = total + (factor * apart.sum(-1)).mean() * TEMPERATURE**2
        return total

    return loss


VARIANTS = {
    "alone": Variant(1, 0),
    "kd": Variant(0.1, 0.9),
    "kd, weight 1.8": Variant(0.1, 1.8),
    "kd, weight 2.7": Variant(0.1, 2.7),
    "caam_cam 10, without kd": Variant(1, 0, 10, caam_cam()),
    "kd + caam_cam 3": Variant(0.1, 0.9, 3, caam_cam()),
    "kd + caam_cam 10": Variant(0.1, 0.9, 10, caam_cam()),
    "kd + caam_cam 10, second half": Variant(0.1, 0.9, 10, caam_cam(), start=0.5),
    "kd + caam_cam 10, first half": Variant(0.1, 0.9, 10, caam_cam(), end=0.5),
    "kd + caam_cam 10, 2 x 2": Variant(0.1, 0.9, 10, caam_cam(2)),
    "kd + caam standardised 1": Variant(0.1, 0.9, 1, caam_standardised),
    "kd + label's CAM min-max 10": Variant(0.1, 0.9, 10, label_cam),
    "kd + all CAMs standardised 1": Variant(0.1, 0.9, 1, all_standardised),
    "kd + likely CAMs standardised 1": Variant(0.1, 0.9, 1, likely_standardised),
    "kd + all CAMs centred 0.1": Variant(0.1, 0.9, 0.1, all_centred),
    "kd + all CAMs centred 1": Variant(0.1, 0.9, 1, all_centred),
    "kd + kd in cells, 2 x 2": Variant(0.1, 0.9, 0.9, in_cells(2)),
    "kd + kd in cells, 4 x 4": Variant(0.1, 0.9, 0.9, in_cells(4)),
    "kd + kd in cells, 8 x 8": Variant(0.1, 0.9, 0.9, in_cells(8)),
    "kd in cells, 1 + 2 + 4": Variant(0.1, 0, 0.9, in_cells(1, 2, 4)),
    "scale decoupled, 1 + 2 + 4": Variant(0.1, 0, 0.9, scale_decoupled(1, 2, 4)),
}


class Held(NamedTuple):
    """Byte images (..., N, H, W, C), labels (N,) and the teacher's class maps (..., N, K, H, W)."""

    images: Tensor
    labels: Tensor
    cams: Tensor


def cams_of(classifier: Classifier, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return a classifier's class maps and class-agnostic maps of byte images."""
    found, agnostic = [], []
    with torch.no_grad():
        for part in rows.split(250):
            outputs = classifier.outputs(to_float(part, 32))
            assert outputs.feature_map is not None
            assert outputs.weight is not None
            found.append(class_cams(outputs.feature_map, outputs.weight, outputs.bias))
            agnostic.append(caam(outputs.feature_map))
    return torch.cat(found), torch.cat(agnostic)


def read_data(runs: Path) -> dict[str, Held]:
    """Return the views of the training part and the held-out parts, with the teacher's maps."""
    data = runs / "cifar10-6000"
    parts = load_data(kdcam.load_recipe(SMALL, [f'data.root="{data}"']).data)
    teacher = kdcam.load(runs / "teacher-resnet20")
    assert parts.validation is not None
    assert parts.test is not None
    held = {}
    for name, part in {"train": parts.train, "validation": parts.validation, "test": parts.test}.items():
        rows = part.images.pixels.permute(0, 2, 3, 1)  # type: ignore[union-attr]  # 32-pixel images are resident
        views = [rows]
        if name == "train":
            generators = [seeded_generator(0, 9, view) for view in range(VIEWS)]
            views = [augment_batch(rows, ("crop", "flip"), generator=one) for one in generators]
        cams = torch.stack([cams_of(teacher, view)[0] for view in views])
        held[name] = Held(torch.stack(views), part.targets, cams)
    return held


def train(variant: Variant, held: Held) -> Classifier:
    """Return a student trained under the teacher's maps."""
    torch.manual_seed(SEED)
    student = build_classifier(
        ModelConfig(name="kdcam:resnet8"), num_classes=10, in_channels=3, image_size=32
    )
    optimizer = torch.optim.SGD(student.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    steps = len(held.labels) // BATCH
    for epoch in range(EPOCHS):
        student.train()
        order = torch.randperm(len(held.labels))
        views = torch.randint(VIEWS, (len(held.labels),))
        for number in range(steps):
            step = epoch * steps + number
            progress = step / (EPOCHS * steps)
            rate = LEARNING_RATE * min(1, (step + 1) / steps) * 0.5 * (1 + math.cos(math.pi * progress))
            optimizer.param_groups[0]["lr"] = rate
            indices = order[number * BATCH : (number + 1) * BATCH]
            images = to_float(held.images[views[indices], indices], 32)
            taught, labels = held.cams[views[indices], indices], held.labels[indices]
            outputs = student.outputs(images)
            loss = variant.labels * F.cross_entropy(outputs.logits, labels)
            if variant.kd:
                loss = loss + variant.kd * kd_loss(
                    outputs.logits, taught.mean((2, 3)), temperature=TEMPERATURE
                )
            if variant.match is not None and variant.start <= progress < variant.end:
                assert outputs.feature_map is not None
                assert outputs.weight is not None
                cams = class_cams(outputs.feature_map, outputs.weight, outputs.bias)
                loss = loss + variant.weight * variant.match(outputs, cams, taught, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student.eval()


def score(student: Classifier, held: Held) -> dict[str, float]:
    """Return accuracy, agreement with the teacher, and how alike the maps are."""
    cams, agnostic = cams_of(student, held.images[0])
    taught, labels = held.cams[0], held.labels
    predicted = cams.mean((2, 3)).argmax(1)
    of_teacher = of_label(taught, labels)
    return {
        "acc1": (predicted == labels).double().mean().item(),
        "nll": F.cross_entropy(cams.mean((2, 3)), labels).item(),
        "agreement": (predicted == taught.mean((2, 3)).argmax(1)).double().mean().item(),
        "cam_similarity": map_similarity(of_label(cams, labels), of_teacher).mean().item(),
        "caam_cam_similarity": map_similarity(agnostic, of_teacher).mean().item(),
    }


def run(name: str, runs: Path) -> dict[str, Any]:
    """Return the scores of a variant, trained now where that has not been done."""
    torch.set_num_threads(1)
    kept = runs / "map-matching" / f"{name}.json"
    if not kept.exists():
        held = read_data(runs)
        student = train(VARIANTS[name], held["train"])
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({part: score(student, held[part]) for part in ("validation", "test")}))
    found: dict[str, Any] = json.loads(kept.read_text())
    print(name, found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/distillation-table"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        futures = {name: pool.submit(run, name, arguments.runs) for name in VARIANTS}
        found = {name: future.result() for name, future in futures.items()}
    result = {
        "seed": SEED,
        "epochs": EPOCHS,
        "machine": describe_machine(),
        "versions": package_versions(),
        "command": "python benchmarks/map_matching.py",
        "variants": found,
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
