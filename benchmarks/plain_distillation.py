"""Distillation in plain PyTorch as HobbitLong/RepDistiller writes it, to compare kdcam's speed with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import transforms

from kdcam.data.batches.resident import ResidentImages
from kdcam.data.dataset_parts import Part


class ArrayPictures(Dataset[tuple[Tensor, int, int]]):
    """Pictures held as arrays, made into PIL images one by one, as torchvision's CIFAR100 does."""

    def __init__(self, part: Part, *, mean: Sequence[float], std: Sequence[float]) -> None:
        assert isinstance(part.images, ResidentImages)
        self.data = part.images.pixels.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets = part.targets.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(part.images.image_size, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.transform(Image.fromarray(self.data[index])), self.targets[index], index


class NextImages(Sampler[int]):
    """The next ``turn`` images of an endless shuffled order of ``images``: fetching ahead ends where a turn does."""

    def __init__(self, images: int, *, turn: int) -> None:
        self.turn = turn
        self.indices = chain.from_iterable(torch.randperm(images).tolist() for _ in count())

    def __len__(self) -> int:
        return self.turn

    def __iter__(self) -> Iterator[int]:
        return islice(self.indices, self.turn)


def plain_loader(
    part: Part, *, batch_size: int, turn: int, workers: int, mean: Sequence[float], std: Sequence[float]
) -> DataLoader[tuple[Tensor, int, int]]:
    """Return a loader that gives the next ``turn`` batches each time; its worker processes stay between turns."""
    return DataLoader(
        ArrayPictures(part, mean=mean, std=std),
        batch_size=batch_size,
        sampler=NextImages(len(part), turn=turn * batch_size),
        num_workers=workers,
        persistent_workers=workers > 0,
    )


class PlainLoss(nn.Module):
    """0.1 of the cross-entropy and 0.9 of the divergence from the teacher at temperature 4."""

    def forward(self, student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        soft, wanted = (student / 4).log_softmax(1), (teacher / 4).softmax(1)
        divergence = nn.functional.kl_div(soft, wanted, reduction="sum") * 4**2 / len(student)
        return 0.1 * nn.functional.cross_entropy(student, targets) + 0.9 * divergence


def top_accuracies(logits: Tensor, targets: Tensor) -> list[float]:
    """Return the share of images whose label is first, and among the first five, as the plain loop tells it."""
    found = logits.topk(5, 1).indices == targets[:, None]
    return [float(found[:, :first].any(1).float().mean()) for first in (1, 5)]


@dataclass
class Plain:
    """A student in training as RepDistiller does it."""

    student: nn.Module
    teacher: nn.Module
    loader: DataLoader[tuple[Tensor, int, int]]
    told: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        self.loss = PlainLoss()

    def steps(self) -> None:
        """Do a turn of steps."""
        self.student.train()
        self.teacher.eval()
        for images, targets, _ in self.loader:
            logits = self.student(images)
            with torch.no_grad():
                taught = self.teacher(images)
            loss = self.loss(logits, taught, targets)
            self.told.append([loss.item(), *top_accuracies(logits, targets)])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
