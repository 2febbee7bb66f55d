import torch

from kdcam.runtime.seeding import seeded_generator


def draw(*numbers):
    return torch.rand(4, generator=seeded_generator(*numbers)).tolist()


def test_the_same_numbers_give_the_same_stream():
    assert draw(3, 5) == draw(3, 5)


def test_every_number_and_their_order_and_count_matter():
    streams = [draw(1), draw(1, 0), draw(0, 1), draw(1, 0, 0), draw(2), draw(1, 1), draw(2**40)]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_global_generators_are_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    draw(7)
    assert torch.equal(before, torch.get_rng_state())
