"""Networks of milliseconds for tests of attacks."""

import torch
from torch import Tensor, nn

EPS, ALPHA = 8 / 255, 2 / 255


class Normalised(nn.Module):
    """A small network with normalisation, BatchNorm and dropout inside."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.norm(self.convolution((images - 0.4) / 0.2)).relu()
        return self.head(self.dropout(features.amax((2, 3))))


def loss(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    with torch.no_grad():
        return nn.functional.cross_entropy(model(images), targets, reduction="none")


class Linear(nn.Module):
    """Logits (0, weight * images, and far below them some more): the gradient's sign is the weight's."""

    def __init__(self, weight: Tensor, classes: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.others = classes - 2

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weight).sum((1, 2, 3))
        others = [torch.full_like(score, -20.0 - number) for number in range(self.others)]
        return torch.stack([torch.zeros_like(score), score, *others], dim=1)


def fooled(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return for each image whether another class is on top."""
    with torch.no_grad():
        return model(images).argmax(1) != targets
