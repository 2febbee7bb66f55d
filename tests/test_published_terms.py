"""Terms of the standard pairs' recipes against those of HobbitLong/RepDistiller's own code, on the same weights."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdcam.losses.fitnet import FitnetConfig
from kdcam.losses.loss import LossConfig, Shapes, Step, needs_of
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier, teacher_outputs
from kdcam.models.inspection import widths
from kdcam.models.model_config import ModelConfig
from kdcam.models.networks import build_cifar
from kdcam.models.weight_folding import freeze_and_fold
from kdcam.recipe.recipe_files import shipped_recipes
from kdcam.recipe.train_recipe import load_recipe

CLASSES, IMAGES = 10, 4
METHODS = ("attention_transfer", "nst", "vid", "similarity_preserving")
PREFIX = "distillation/cifar100-"
# Made once with RepDistiller at commit b84f547, its networks and distiller_zoo, in float64.
THEIRS: dict[str, dict[str, float]] = json.loads(
    (Path(__file__).parent / "assets" / "published_terms.json").read_text()
)
PAIRS = sorted(
    name.removeprefix(PREFIX)
    for name in shipped_recipes()
    if name.startswith(PREFIX) and not name.endswith("-alone")
)


def scattered(shape: torch.Size | tuple[int, ...], key: int) -> Tensor:
    """Return numbers in [-0.5, 0.5) that look random and are the same on every machine: integers alone make them."""
    places = torch.arange(torch.Size(shape).numel()) + 104_729 * (key + 1)
    return ((places * places % 2**31) * 1_103_515_245 % 2**31).double().reshape(shape) / 2**31 - 0.5


def fill(module: nn.Module, *, key: int = 0) -> None:
    """Give a module weights by a formula; convolutions keep the variance of what they read."""
    for place, (name, tensor) in enumerate(module.state_dict().items()):
        numbers = scattered(tensor.shape, key + place)
        if tensor.ndim > 1:
            tensor.copy_(numbers * (24 / tensor[0].numel()) ** 0.5)
        elif name.endswith("weight"):
            tensor.copy_(1 + 0.5 * numbers)
        elif name.endswith("bias"):
            tensor.copy_(0.2 * numbers)
        elif name.endswith("scale"):
            tensor.copy_(2 * numbers)


def network(config: ModelConfig, *, key: int) -> Classifier:
    """Return a network in float64 that reads images as they are."""
    as_they_are = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    config = config.model_copy(update=as_they_are)
    classifier = build_classifier(config, num_classes=CLASSES, in_channels=3, image_size=32).double()
    fill(classifier.network, key=key)
    return classifier


def images(key: int = 1) -> Tensor:
    return 4 * scattered((IMAGES, 3, 32, 32), key)


def as_trained(classifier: Classifier) -> Classifier:
    """Return a network in eval mode whose BatchNorms know the statistics of a batch."""
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics of the first batch alone
    with torch.no_grad():
        classifier.train()(images(2))
    return classifier.eval()


class Terms:
    """The terms of a pair's methods, whose student is in train mode and whose teacher in eval mode."""

    def __init__(self, pair: str) -> None:
        self._recipes = {method: load_recipe(PREFIX + pair, method=method) for method in METHODS}
        recipe = self._recipes[METHODS[0]]
        self.student = network(recipe.model, key=0)
        teacher = recipe.model.model_copy(update={"name": f"kdcam:{pair.partition('-')[0]}"})
        self.teacher = as_trained(network(teacher, key=10_000))

    @property
    def losses(self) -> dict[str, LossConfig]:
        return {method: recipe.loss[-1] for method, recipe in self._recipes.items()}

    def modules(self) -> dict[str, nn.Module]:
        """Return the losses' modules in float64, what they learn filled as a network is."""
        labels = torch.arange(IMAGES)
        shapes = Shapes("single-label", CLASSES, labels, widths(self.student), widths(self.teacher))
        built = {method: config.build(shapes).double() for method, config in self.losses.items()}
        for module in built.values():
            fill(module, key=20_000)
        return built

    def values(self) -> dict[str, float]:
        """Return the value of each method's own term."""
        labels = torch.arange(IMAGES)
        needs = needs_of(self.losses.values())
        with torch.no_grad():
            outputs = self.student.train().outputs(images(), stages=True)
            taught = teacher_outputs(self.teacher, images(), labels, needs)
            step = Step(outputs, taught, labels, labels, 0.5)
            return {method: module(step).item() for method, module in self.modules().items()}


def test_every_pair_of_the_table_is_compared() -> None:
    assert list(THEIRS) == PAIRS
    assert len(PAIRS) == 13


@pytest.mark.parametrize("pair", PAIRS)
def test_terms_are_repdistillers(pair: str) -> None:
    assert Terms(pair).values() == pytest.approx(THEIRS[pair], rel=1e-9)


@pytest.mark.parametrize("pair", ["wrn_40_2-shufflenetv1", "vgg13-mobilenetv2"])
def test_a_teacher_whose_norms_are_folded_teaches_the_same(pair: str) -> None:
    terms = Terms(pair)
    assert freeze_and_fold(terms.teacher).folded > 0
    assert terms.values() == pytest.approx(THEIRS[pair], rel=1e-9)


@pytest.mark.parametrize("pair", PAIRS)
def test_fitnet_reads_the_second_map(pair: str) -> None:
    fitnet = load_recipe(PREFIX + pair, method="fitnet").loss[-1]
    assert isinstance(fitnet, FitnetConfig)
    assert fitnet.stages == "published"
    for name in pair.split("-"):
        places = build_cifar(name).published_indices
        assert places[fitnet.stage] == places[1]
