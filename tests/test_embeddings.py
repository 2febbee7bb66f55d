import pytest
import torch
from small_runs import SCENES, small_recipe

from kdcam.data.datasets import batches, load_data
from kdcam.embeddings import effective_rank, embeddings_of
from kdcam.models.build import ModelConfig, build_classifier


def test_equal_directions_count_whole() -> None:
    corners = torch.cat([torch.eye(6), -torch.eye(6)])
    assert effective_rank(corners) == pytest.approx(6)


def test_a_line_has_rank_one_and_a_point_too() -> None:
    line = torch.arange(5.0)[:, None] * torch.tensor([1.0, 2.0, 3.0])
    assert effective_rank(line) == pytest.approx(1)
    assert effective_rank(torch.ones(5, 3)) == 1


def test_hand_worked_shares() -> None:
    # Variances 3 to 1: shares 3/4 and 1/4, whose entropy is log 4 - 0.75 log 3.
    points = torch.tensor([[3.0**0.5, 0.0], [-(3.0**0.5), 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert effective_rank(points) == pytest.approx(4 / 3**0.75)


def test_moving_turning_and_scaling_changes_nothing() -> None:
    torch.manual_seed(0)
    points = torch.randn(40, 5) * torch.arange(1.0, 6)
    turn = torch.linalg.qr(torch.randn(5, 5)).Q
    assert effective_rank(3 * points @ turn + 7) == pytest.approx(effective_rank(points), rel=1e-4)


def test_embeddings_come_in_order_and_modes_stay() -> None:
    recipe = small_recipe()
    part = load_data(recipe.data).train
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8_s2"), num_classes=10, in_channels=1, image_size=SCENES["image_size"]
    ).train()
    loader = batches(
        part, batch_size=16, training=False, config=recipe.data, seed=0, device=torch.device("cpu")
    )
    found = embeddings_of(classifier, loader)
    assert found.shape == (45, 64)
    assert classifier.training
    first = next(iter(loader.epoch(0)))
    classifier.eval()
    torch.testing.assert_close(found[:16], classifier.outputs(first.images).embedding.detach())
