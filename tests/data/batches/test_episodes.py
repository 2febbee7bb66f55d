import pytest
import torch

from kdcam.data.batches.episodes import Episodes, draw_episodes
from kdcam.errors import DataError

SIZES = torch.tensor([16, 30, 17, 0, 50, 16, 16])  # images of classes 0 to 6; class 3 has none
TARGETS = torch.arange(7).repeat_interleave(SIZES)[
    torch.randperm(145, generator=torch.Generator().manual_seed(0))
]


def draw(**changes: int) -> Episodes:
    keys = {"ways": 5, "shots": 1, "queries": 15, "episodes": 200, "seed": 0}
    return draw_episodes(TARGETS, **{**keys, **changes})


def test_images_are_of_the_episodes_classes_class_by_class() -> None:
    found = draw(shots=3, queries=13)
    assert (found.ways, found.shots, found.queries) == (5, 3, 13)
    assert torch.equal(TARGETS[found.support], found.classes.repeat_interleave(3, 1))
    assert torch.equal(TARGETS[found.query], found.classes.repeat_interleave(13, 1))


def test_classes_and_images_of_an_episode_are_all_different() -> None:
    found = draw()
    images = torch.cat([found.support, found.query], 1)
    for row, classes in zip(images, found.classes, strict=True):
        assert len(row.unique()) == 80
        assert len(classes.unique()) == 5


def test_seed_alone_decides_and_fewer_are_the_first_of_more() -> None:
    torch.manual_seed(3)
    long = draw(episodes=300)
    torch.manual_seed(4)
    short = draw(episodes=7)
    assert all(torch.equal(some[:7], few) for some, few in zip(long, short, strict=True))
    assert draw(seed=1).digest != draw().digest == draw().digest


def test_all_classes_and_images_are_equally_likely() -> None:
    found = draw(ways=2, queries=1, episodes=6000)
    classes = torch.bincount(found.classes.flatten(), minlength=7)
    assert classes[3] == 0
    # 12,000 draws over 6 classes: 2,000 each, a standard deviation of 41 at most.
    assert (classes[classes > 0] - 2000).abs().max() < 5 * 41
    # Support and query of class 0's 16 images: 125 each on average.
    for images in (found.support, found.query):
        drawn = torch.bincount(images.flatten(), minlength=len(TARGETS))[TARGETS == 0]
        expected = float(classes[0]) / 16
        assert ((drawn - expected).abs() < 5 * expected**0.5).all()


def test_order_of_two_drawn_images_is_random() -> None:
    found = draw_episodes(torch.zeros(2).long(), ways=1, shots=1, queries=1, episodes=1000, seed=0)
    assert 400 < int((found.support == 0).sum()) < 600


def test_whole_classes_can_be_drawn() -> None:
    found = draw(shots=1, queries=15, episodes=50)
    whole = (found.classes == 0).nonzero()[0]
    row, place = whole.tolist()
    seen = [found.support[row, place : place + 1], found.query[row, 15 * place : 15 * place + 15]]
    assert torch.equal(torch.cat(seen).sort().values, (TARGETS == 0).nonzero().flatten())


def test_too_few_classes() -> None:
    with pytest.raises(
        DataError, match=r"7 ways need 7 classes with images, and there are 6; take at most 6 ways"
    ):
        draw(ways=7)


def test_too_few_images_for_the_shots_asked() -> None:
    names = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
    with pytest.raises(
        DataError, match=r"class 'ant' has 16 images, and 5 shots \+ 15 queries need 20; .* 11 queries"
    ):
        draw_episodes(TARGETS, ways=5, shots=5, queries=15, episodes=1, seed=0, label_names=names)
    with pytest.raises(DataError, match=r"class '0' has 16 images.* take fewer shots"):
        draw(shots=16, queries=1)


def test_wrong_numbers() -> None:
    with pytest.raises(ValueError, match=r"shots is 0; allowed: 1 or more"):
        draw(shots=0)
