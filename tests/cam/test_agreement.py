import numpy as np
import pytest
import torch

from kdcam.cam.maps import map_similarity


def random_maps(images: int, side: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(images, side, side, generator=torch.Generator().manual_seed(seed))


def test_it_is_numpys_correlation() -> None:
    one, other = random_maps(5, 4, 1), random_maps(5, 4, 2)
    expected = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(one, other, strict=True)]
    assert map_similarity(one, other).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_hand_worked_pair() -> None:
    one = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    other = torch.tensor([[[1.0, 3.0], [2.0, 4.0]]])
    # Centred: (-1.5, -0.5, 0.5, 1.5) and (-1.5, 0.5, -0.5, 1.5): 4 / 5.
    assert map_similarity(one, other).item() == pytest.approx(0.8, abs=1e-6)


def test_scale_and_offset_do_not_count_and_the_sign_does() -> None:
    one = random_maps(3, 6)
    torch.testing.assert_close(map_similarity(one, 250 * one - 7), torch.ones(3))
    torch.testing.assert_close(map_similarity(one, 1e-20 * one), torch.ones(3))
    torch.testing.assert_close(map_similarity(one, -one), -torch.ones(3))


def test_a_constant_map_is_like_nothing() -> None:
    maps = random_maps(4, 3)
    flat = torch.stack([torch.zeros(3, 3), torch.full((3, 3), 0.1), torch.full((3, 3), -1e30), maps[3]])
    torch.testing.assert_close(map_similarity(flat, maps), torch.tensor([0.0, 0.0, 0.0, 1.0]))
    torch.testing.assert_close(map_similarity(maps, flat)[:3], torch.zeros(3))
    assert map_similarity(random_maps(2, 1), random_maps(2, 1, 5)).tolist() == [0.0, 0.0]


def test_the_larger_map_is_pooled_to_the_smaller() -> None:
    small = random_maps(3, 4)
    large = small.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    torch.testing.assert_close(map_similarity(large, small), torch.ones(3))
    torch.testing.assert_close(map_similarity(small, large), torch.ones(3))


def test_half_precision_is_widened() -> None:
    maps = 300 * random_maps(3, 8)
    assert map_similarity(maps.half(), maps).min() > 0.9999


@pytest.mark.parametrize("shape", [(2, 3), (3, 4, 4), (2, 1, 4, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"wanted \(N, H, W\) and \(N, H', W'\)"):
        map_similarity(torch.zeros(2, 4, 4), torch.zeros(shape))
