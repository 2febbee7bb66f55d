"""Episodic training: what a batch holds, that it follows from seed, epoch and number alone, and whole runs of it."""

from pathlib import Path

import pytest
import torch
from small_runs import Watcher, kept_files, small_recipe

from kdcam.data.batches.episodes import EpisodeOrder, check_ways
from kdcam.data.common_config import EpisodesConfig
from kdcam.data.datasets import batches, load_data
from kdcam.data.source_configs import DigitsConfig, ImageFolderConfig
from kdcam.errors import DataError, Interrupted, RecipeError
from kdcam.losses import LOSSES
from kdcam.losses.prototypical import PrototypicalConfig
from kdcam.recipe.recipe_fields import EPISODIC_LOSSES
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe
from kdcam.training.preflight import preflight
from kdcam.training.training_run import run_training

CPU = torch.device("cpu")
TARGETS = torch.arange(60) % 6
NAMES = tuple("abcdef")
SMALL = EpisodesConfig(ways=4, shots=2, queries=3, per_epoch=5)


def order(seed=0, config=SMALL):
    return EpisodeOrder(TARGETS, config, seed=seed, label_names=NAMES)


def episodes_of(found, epoch):
    return found.of_epoch(epoch).view(5, 20)


def test_support_comes_first_class_by_class_then_the_queries():
    for positions in episodes_of(order(), 0):
        labels = TARGETS[positions]
        support, query = labels[:8].view(4, 2), labels[8:].view(4, 3)
        assert len(set(support[:, 0].tolist())) == 4
        assert (support == support[:, :1]).all()
        assert (query == support[:, :1]).all()
        assert len(set(positions.tolist())) == 20


def test_is_a_function_of_seed_and_epoch():
    assert torch.equal(order().of_epoch(3), order().of_epoch(3))
    drawn = {tuple(order(seed).of_epoch(epoch).tolist()) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert len(drawn) == 6


def test_all_images_have_their_turn():
    seen = torch.bincount(torch.cat([order().of_epoch(epoch) for epoch in range(40)]), minlength=60)
    assert seen.min() > 0
    assert seen.float().std() < 3 * seen.float().mean().sqrt()


def test_too_few_classes_or_images_are_refused():
    with pytest.raises(DataError, match=r"found ways = 7, but the data has 6 classes to train on; lower"):
        check_ways(EpisodesConfig(ways=7), 6)
    few = EpisodesConfig(ways=2, shots=8, queries=3)
    with pytest.raises(
        DataError, match=r"class 'a' has 10 training images, and 8 shots \+ 3 queries need 11"
    ):
        order(config=few)


@pytest.fixture
def folder(paint, tmp_path):
    for number, name in enumerate("abcdef"):
        paint(tmp_path / name, 10, first=20 * number)
    return tmp_path


def batches_of(part, config, *, seed=0, episodes=SMALL):
    found = EpisodeOrder(part.targets, episodes, seed=seed, label_names=NAMES)
    return batches(part, batch_size=20, training=True, config=config, seed=seed, device=CPU, episodes=found)


@pytest.mark.parametrize("image_size", [16, 80])  # held in memory, decoded batch by batch
def test_batches_show_the_images_of_their_episode(folder, image_size):
    config = ImageFolderConfig(root=folder, image_size=image_size, test=0.0, validation=0.0, workers=0)
    part = load_data(config).train
    found = batches_of(part, config)
    plain = batches(part, batch_size=60, training=False, config=config, seed=0, device=CPU)
    whole = next(iter(plain.epoch(0)))
    assert (len(found), found.num_images) == (5, 100)
    wanted = EpisodeOrder(part.targets, SMALL, seed=0, label_names=NAMES).of_epoch(2).view(5, 20)
    for positions, batch in zip(wanted, found.epoch(2), strict=True):
        assert torch.equal(batch.indices, positions)
        assert torch.equal(batch.targets, part.targets[positions])
        assert torch.equal(batch.images, whole.images[positions])


@pytest.mark.parametrize("image_size", [16, 80])
def test_an_epoch_gone_on_with_shows_the_same(folder, image_size):
    config = ImageFolderConfig(
        root=folder, image_size=image_size, test=0.0, validation=0.0, workers=0, augment=("crop", "flip")
    )
    part = load_data(config).train
    whole = list(batches_of(part, config).epoch(1))
    rest = list(batches_of(part, config).epoch(1, start_batch=3))
    assert len(rest) == 2
    for one, other in zip(whole[3:], rest, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.indices, other.indices)


def test_an_image_that_comes_again_is_augmented_anew(folder):
    config = ImageFolderConfig(
        root=folder, image_size=80, test=0.0, validation=0.0, workers=0, augment=("crop",)
    )
    part = load_data(config).train
    every = EpisodesConfig(ways=6, shots=5, queries=5, per_epoch=3)  # each image in each episode
    shown = [
        batch.images[batch.indices.argsort()] for batch in batches_of(part, config, episodes=every).epoch(0)
    ]
    different = [(one != shown[0]).flatten(1).any(1).float().mean() for one in shown[1:]]
    assert all(share > 0.8 for share in different)


PROTONET = {
    "data": {"name": "digits", "augment": ["crop"]},
    "episodes": {"ways": 5, "shots": 2, "queries": 3, "per_epoch": 6},
    "loss": [{"name": "prototypical", "shots": 2}],
}


def protonet(**changes):
    return small_recipe(**{**PROTONET, "batch_size": 25, **changes})


def test_the_batch_size_is_the_episodes():
    recipe = read_recipe(PROTONET, source="small")
    assert recipe.batch_size == 25
    again = read_recipe(recipe.model_dump(mode="json"), source="stored")
    assert again == recipe
    assert "episodes" not in small_recipe().model_dump(mode="json")


def test_the_losss_shots_are_the_episodes():
    assert {name for name, kind in LOSSES.items() if "shots" in kind.model_fields} == set(EPISODIC_LOSSES)
    bare = {**PROTONET, "loss": [{"name": "cross_entropy"}, {"name": "prototypical", "distance": "cosine"}]}
    recipe = read_recipe(bare, source="small")
    assert [getattr(loss, "shots", None) for loss in recipe.loss] == [None, 2]
    assert read_recipe(recipe.model_dump(mode="json"), source="stored") == recipe
    built = TrainRecipe(data=recipe.data, episodes=recipe.episodes, loss=(PrototypicalConfig(),))
    assert (built.batch_size, built.loss[0].shots) == (25, 2)
    alone = read_recipe({"data": {"name": "digits"}, "loss": [{"name": "prototypical"}]}, source="small")
    assert alone.loss[0].shots == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 64}, r"batch_size: found 64, but a batch is an episode of 5 ways x \(2 shots \+ 3"),
        (
            {"loss": [{"name": "prototypical", "shots": 1}]},
            r"found shots = 1, but episodes\.shots is 2; leave shots out of the loss",
        ),
        ({"episodes": {"ways": 1}}, r"episodes\.ways"),
        (
            {
                "task": "multi-label",
                "data": {"name": "digit-scenes", "multi_label": True},
                "loss": [{"name": "binary_cross_entropy"}],
            },
            r"episodes: found with task = \"multi-label\"",
        ),
    ],
)
def test_recipes_that_do_not_fit(changes, message):
    with pytest.raises(RecipeError, match=message):
        protonet(**changes)


def test_too_many_ways_are_told_before_data_is_read():
    recipe = protonet(episodes={"ways": 11, "shots": 2, "queries": 3}, batch_size=55)
    with pytest.raises(DataError, match=r"found ways = 11, but the data has 10 classes"):
        preflight(recipe, device="cpu")


def do_run(path: Path, *, stop_after: int | None = None) -> Watcher:
    watcher = Watcher(stop_after)
    checked = preflight(protonet(), device="cpu")
    run_training(checked, output=path, resume="auto", command=(), progress=watcher)
    return watcher


def test_stopped_in_an_epoch_it_ends_like_an_uninterrupted_run(tmp_path):
    watcher = do_run(tmp_path / "whole")
    assert [record.step for record in watcher.epochs] == [6, 12]
    for stop_after in (2, 8):
        path = tmp_path / f"stopped-{stop_after}"
        with pytest.raises(Interrupted):
            do_run(path, stop_after=stop_after)
        do_run(path)
        assert kept_files(path) == kept_files(tmp_path / "whole")


def test_prototypical_training_tells_digits_apart(tmp_path):
    recipe = small_recipe(
        epochs=6,
        batch_size=100,
        data={"name": "digits", "augment": []},
        episodes={"ways": 10, "shots": 5, "queries": 5, "per_epoch": 12},
        loss=[{"name": "prototypical", "shots": 5}],
        optimizer={"name": "adam", "lr": 0.003},
        schedule={"name": "cosine", "warmup_epochs": 0},
    )
    watcher = Watcher()
    checked = preflight(recipe, device="cpu")
    run_training(checked, output=tmp_path / "run", resume="auto", command=(), progress=watcher)
    assert watcher.epochs[-1].terms["prototypical"] < 0.5 * watcher.epochs[0].terms["prototypical"]
    assert watcher.epochs[-1].validation["acc1"] > 0.6  # by the classifier trained beside it; chance is 0.1


def test_digits_are_read_in_episodes_too():
    config = DigitsConfig(image_size=8)
    part = load_data(config).train
    names = tuple("0123456789")
    found = EpisodeOrder(part.targets, SMALL, seed=0, label_names=names)
    loader = batches(part, batch_size=20, training=True, config=config, seed=0, device=CPU, episodes=found)
    batch = next(iter(loader.epoch(0)))
    assert torch.equal(batch.targets, part.targets[batch.indices])
