"""Every distillation method on every pair of networks that it can serve; the others are refused before any work."""

import math
from functools import lru_cache
from typing import Any

import pytest
import torch
from long_tests import LONG

from kdcam.data.batches.batch import Batch
from kdcam.errors import ModelError, RecipeError
from kdcam.losses import LOSSES
from kdcam.losses.loss import Objective, needs_of
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier, teacher_outputs
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.methods import method_losses, method_names
from kdcam.recipe.train_recipe import read_recipe
from kdcam.training.engine import Trainable
from kdcam.training.preflight import preflight, shapes_of

SIZE, CLASSES = 64, 10
NETWORKS = ("kdcam:resnet8_s2", "resnet10t", "mobilenetv2_035", "torchvision:resnet18")
TOKENS = "vit_tiny_patch16_224"
ON_LOGITS = {"kd", "kd_standardized", "dkd", "dist"}
ON_EMBEDDINGS = {"correlation_congruence", "rkd", "pkt", "crd"}
DATA = {"name": "digit-scenes", "image_size": SIZE, "train_size": 60, "test_size": 20}


@lru_cache
def network(name: str, role: str) -> Classifier:
    torch.manual_seed(len(role))
    return build_classifier(ModelConfig(name=name), num_classes=CLASSES, in_channels=1, image_size=SIZE)


def train_a_step(teacher: str, method: str) -> dict[str, float]:
    """Check a recipe of a method as a run does, then take one step; return the terms."""
    losses = method_losses(method)
    if method == "crd":
        losses[1]["negatives"] = 32
    if method == "cam_kd":
        losses[1]["grids"] = (1, 2)  # some maps here are 2 x 2
    return train_a_step_of(teacher, losses)


def train_a_step_of(teacher: str, losses: list[dict[str, Any]]) -> dict[str, float]:
    table = {"data": DATA, "teacher": {"checkpoint": teacher}, "loss": losses}
    checked = preflight(read_recipe(table, source="pair"), device="cpu")
    torch.manual_seed(0)
    labels = torch.arange(12) % CLASSES
    objective = Objective(checked.recipe.loss, *shapes_of(checked, labels))
    model = Trainable(checked.student, objective).train()
    batch = Batch(torch.rand(4, 1, SIZE, SIZE), labels[:4], torch.arange(4))
    taught = teacher_outputs(checked.teachers[0], batch.images, batch.targets, needs_of(checked.recipe.loss))
    terms = model(batch, 0.9, [taught])
    model.zero_grad()
    terms.total.backward()
    grads = [p.grad for p in model.student.parameters() if p.grad is not None]
    assert grads
    assert all(torch.isfinite(gradient).all() for gradient in grads)
    assert all(parameter.grad is None for parameter in checked.teachers[0].parameters())
    return {name: float(value) for name, value in terms.values.items()}


@pytest.fixture(autouse=True)
def built_once(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Let the checks find networks that are built once, not for each method."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    name = parameters.get("student", NETWORKS[0])
    monkeypatch.setattr(
        "kdcam.training.preflight.starting_student", lambda *_, **__: network(name, "student")
    )
    monkeypatch.setattr(
        "kdcam.training.preflight.load_teacher",
        lambda config, *_, **__: network(config.checkpoint, "teacher").eval().requires_grad_(False),
    )


# Each network as student and as teacher of another one; .ci/long takes all pairs.
PAIRS = [
    (NETWORKS[place], NETWORKS[(place + further) % len(NETWORKS)])
    for further in (range(len(NETWORKS)) if LONG else (1,))
    for place in range(len(NETWORKS))
]


@pytest.mark.long
@pytest.mark.parametrize(("student", "teacher"), PAIRS)
def test_convolutional_pairs_train_by_every_method(student: str, teacher: str) -> None:
    for method in method_names():
        terms = train_a_step(teacher, method)
        assert len(terms) == len(method_losses(method)), method
        assert all(math.isfinite(value) for value in terms.values()), (method, terms)


@pytest.mark.parametrize("student", NETWORKS)
def test_a_teacher_of_tokens_serves_logits_and_embeddings(student: str) -> None:
    for method in method_names():
        if method in ON_LOGITS | ON_EMBEDDINGS:
            train_a_step(TOKENS, method)
            continue
        with pytest.raises((ModelError, RecipeError), match=r"vit_tiny_patch16_224|teacher") as refused:
            train_a_step(TOKENS, method)
        assert len(str(refused.value)) > 40, method  # a sentence with the reason


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ("kdcam:wrn_16_2", "kdcam:resnet8x4"),
        ("kdcam:mobilenetv2", "kdcam:vgg8"),
        ("kdcam:shufflenetv2", "kdcam:wrn_16_2"),
        ("kdcam:resnet8x4", "kdcam:wrn_16_2"),
    ],
)
def test_losses_of_both_kinds_of_maps_train_in_one_run(student: str, teacher: str) -> None:
    published = ("attention_transfer", "nst", "vid", "similarity_preserving", "fitnet")
    losses = [{"name": "cross_entropy"}, {"name": "review_kd"}, {"name": "attention_transfer"}]
    losses += [{"name": name, "stages": "published"} for name in published]
    terms = train_a_step_of(teacher, losses)
    assert len(terms) == len(losses)
    assert all(math.isfinite(value) for value in terms.values()), terms
    assert terms["attention_transfer"] != terms["attention_transfer_2"]


@pytest.mark.parametrize(
    ("student", "teacher", "who"),
    [("resnet10t", "kdcam:resnet8_s2", "student"), ("kdcam:resnet8_s2", "torchvision:resnet18", "teacher")],
)
def test_published_maps_of_other_networks_are_refused(student: str, teacher: str, who: str) -> None:
    losses = [{"name": "cross_entropy"}, {"name": "similarity_preserving", "stages": "published"}]
    reason = rf"loss\[1\] \(similarity_preserving\): stages: found \"published\", .* the {who}'s maps; set"
    with pytest.raises(RecipeError, match=reason):
        train_a_step_of(teacher, losses)


def test_every_loss_with_a_teacher_is_among_the_methods() -> None:
    taught = {
        name for name, kind in LOSSES.items() if any(need.startswith("teacher.") for need in kind.needs)
    }
    assert taught <= set(method_names())
