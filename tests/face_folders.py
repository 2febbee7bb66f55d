"""Identity folders of made-up faces, and a network that takes their pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from PIL import Image

from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig
from kdcam.runs.checkpoint import save_model

SIZE = 16


def face_folder(folder: Path, people: Sequence[str] = ("ann", "bob", "cy", "dee"), *, each: int = 5) -> Path:
    """Make a folder for each person, with gray pictures 1.png, 2.png ... that look alike, and return their folder."""
    generator = numpy.random.default_rng(0)
    for name in people:
        (folder / name).mkdir(parents=True)
        face = generator.integers(0, 60, (SIZE, SIZE))
        for number in range(1, each + 1):
            pixels = face + generator.integers(0, 190, (SIZE, SIZE))
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{number}.png")
    return folder


def random_network(folder: Path, *, label_names: Sequence[str] = ("x", "y"), channels: int = 1) -> Path:
    """Save a network with random weights, and return its folder, which is no run's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = build_classifier(
            ModelConfig(name="kdcam:resnet8_s2"),
            num_classes=len(label_names),
            in_channels=channels,
            image_size=SIZE,
            label_names=label_names,
        )
    save_model(folder, classifier)
    return folder
