import pytest
import torch
from small_runs import SCENES, Watcher, small_recipe

from kdcam.data.datasets import batches, load_data
from kdcam.errors import DataError, Interrupted, ModelError
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Outputs
from kdcam.models.model_config import ModelConfig
from kdcam.scores.embeddings import effective_rank, feature_table


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
    found = feature_table(classifier, loader).embeddings
    assert found.shape == (45, 64)
    assert classifier.training
    first = next(iter(loader.epoch(0)))
    classifier.eval()
    torch.testing.assert_close(found[:16], classifier.outputs(first.images).embedding.detach())


def test_a_table_holds_each_image_once_whatever_the_batch() -> None:
    recipe = small_recipe()
    part = load_data(recipe.data).train
    torch.manual_seed(0)
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8_s2"), num_classes=10, in_channels=1, image_size=SCENES["image_size"]
    )
    tables = [
        feature_table(
            classifier,
            batches(
                part, batch_size=size, training=False, config=recipe.data, seed=0, device=torch.device("cpu")
            ),
        )
        for size in (7, 45)
    ]
    assert torch.equal(tables[0].targets, part.targets)
    assert tables[0].embeddings.dtype == torch.float32
    assert not tables[0].embeddings.requires_grad
    torch.testing.assert_close(tables[0].embeddings, tables[1].embeddings)


def test_autocast_around_it_changes_nothing() -> None:
    recipe = small_recipe()
    part = load_data(recipe.data).train
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8_s2"), num_classes=10, in_channels=1, image_size=SCENES["image_size"]
    )
    loader = batches(
        part, batch_size=45, training=False, config=recipe.data, seed=0, device=torch.device("cpu")
    )
    plain = feature_table(classifier, loader).embeddings
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(feature_table(classifier, loader).embeddings, plain)


def test_no_image_is_an_error() -> None:
    recipe = small_recipe()
    part = load_data(recipe.data).train.subset(torch.tensor([], dtype=torch.int64))
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8_s2"), num_classes=10, in_channels=1, image_size=SCENES["image_size"]
    )
    loader = batches(
        part, batch_size=4, training=False, config=recipe.data, seed=0, device=torch.device("cpu")
    )
    with pytest.raises(DataError, match=r"has no image; choose another part"):
        feature_table(classifier, loader, progress=Watcher())


def test_embeddings_that_are_not_finite_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe()
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8_s2"), num_classes=10, in_channels=1, image_size=SCENES["image_size"]
    )
    part = load_data(recipe.data).train.subset(torch.arange(7))
    loader = batches(
        part, batch_size=4, training=False, config=recipe.data, seed=0, device=torch.device("cpu")
    )
    outputs, seen = classifier.outputs, list[int]()

    def broken(images: torch.Tensor) -> Outputs:
        found = outputs(images)
        embedding = found.embedding.clone()
        embedding[-1, len(seen)] = (torch.nan, torch.inf)[len(seen)]
        seen.append(len(images))
        return found._replace(embedding=embedding)

    monkeypatch.setattr(classifier, "outputs", broken)
    with pytest.raises(
        ModelError,
        match=r"^here: the embeddings of 2 of 7 images are not finite \(NaN or infinite\): 3, 6, counted",
    ):
        feature_table(classifier, loader, task="here")
    assert seen == [4, 3]


def test_a_stop_is_heeded_at_each_batch() -> None:
    recipe = small_recipe()
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8_s2"), num_classes=10, in_channels=1, image_size=SCENES["image_size"]
    )
    loader = batches(
        load_data(recipe.data).train,
        batch_size=16,
        training=False,
        config=recipe.data,
        seed=0,
        device=torch.device("cpu"),
    )
    watcher = Watcher(stop_after=2)
    with pytest.raises(Interrupted, match=r"some features: stopped, nothing was written"):
        feature_table(classifier, loader, task="some features", progress=watcher)
    assert watcher.done == [("some features", 1, 3)]
