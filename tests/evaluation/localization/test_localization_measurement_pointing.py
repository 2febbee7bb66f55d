"""Tests of kdcam.evaluation.localization.localization_measurement: the pointing game, energy inside, 8-bit maps."""

import pytest
import torch

from kdcam.data.datasets import batches, load_data
from kdcam.data.source_configs import DigitScenesConfig
from kdcam.errors import ModelError
from kdcam.evaluation.localization.localization_measurement import (
    byte_maps,
    energy_inside,
    flat_maps,
    pointing_game,
    pointing_scores,
)
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig


def peak(size: int, row: int, column: int) -> torch.Tensor:
    map_ = torch.zeros(size, size)
    map_[row, column] = 1
    return map_


def test_a_peak_in_and_outside_the_box() -> None:
    maps = torch.stack([peak(8, 2, 5), peak(8, 5, 2)])
    boxes = torch.tensor([[5.0, 2.0, 6.0, 3.0], [5.0, 2.0, 6.0, 3.0]])
    assert pointing_game(maps, boxes, 8).tolist() == [True, False]


def test_the_end_of_a_box_is_exclusive() -> None:
    maps = peak(8, 3, 3).expand(4, 8, 8)
    boxes = torch.tensor([[3, 3, 4, 4], [0, 0, 3, 8], [4, 0, 8, 8], [0, 0, 8, 3]])
    assert pointing_game(maps, boxes, 8).tolist() == [True, False, False, False]


def test_fractions_of_a_pixel_count_by_its_centre() -> None:
    maps = peak(8, 3, 3).expand(2, 8, 8)
    boxes = torch.tensor([[3.4, 3.4, 4.0, 4.0], [3.6, 3.0, 4.0, 4.0]])
    assert pointing_game(maps, boxes, 8).tolist() == [True, False]


def test_a_small_map_is_brought_to_the_images_size() -> None:
    # The upper right cell's centre lies at x = 24: from there to the border the enlarged map is equally high.
    maps = peak(2, 0, 1)[None]
    assert pointing_game(maps, torch.tensor([[24, 0, 25, 1]]), 32).tolist() == [True]
    assert pointing_game(maps, torch.tensor([[0, 0, 16, 32]]), 32).tolist() == [False]


def test_scale_and_offset_do_not_matter() -> None:
    maps = torch.rand(20, 6, 6, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[8, 8, 40, 40]]).expand(20, 4)
    hits = pointing_game(maps, boxes, 48)
    assert 0 < hits.sum() < 20
    assert torch.equal(pointing_game(100 * maps - 7, boxes, 48), hits)


def test_constant_and_broken_maps_point_nowhere() -> None:
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 3.0), torch.full((4, 4), torch.nan)])
    assert pointing_game(maps, torch.tensor([[0, 0, 8, 8]]).expand(3, 4), 8).tolist() == [False] * 3


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4, 4\).*\(3, 4\)"):
        pointing_game(torch.rand(2, 4, 4), torch.zeros(3, 4), 8)


def test_any_of_several_boxes_is_enough() -> None:
    maps = peak(8, 3, 3).expand(3, 8, 8)
    missing = [torch.nan] * 4
    boxes = torch.tensor([[[0.0, 0, 2, 2], [3, 3, 4, 4]], [[0, 0, 2, 2], missing], [missing, missing]])
    assert pointing_game(maps, boxes, 8).tolist() == [True, False, False]


def test_energy_is_the_share_of_what_is_positive() -> None:
    map_ = torch.tensor([[4.0, 0.0, -9.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0] * 4, [0.0, 0.0, 0.0, 2.0]])
    cases = {
        (0, 0, 1, 1): 0.5,
        (0, 0, 2, 2): 0.75,
        (0, 0, 4, 4): 1.0,
        (2, 0, 3, 1): 0.0,  # negative: no energy
        (0.4, 0.4, 1.6, 1.6): 0.75,  # by the pixels' centres
        (0.6, 0.6, 1.4, 1.4): 0.0,
    }
    boxes = torch.tensor([list(map(float, box)) for box in cases])
    found = energy_inside(map_.expand(len(cases), 4, 4), boxes, 4)
    assert found.tolist() == pytest.approx(list(cases.values()))


def test_energy_in_several_boxes_counts_each_pixel_once() -> None:
    boxes = torch.tensor([[[0.0, 0, 2, 4], [1, 0, 3, 4]], [[0, 0, 1, 4], [torch.nan] * 4]])
    maps = torch.tensor([1.0, 1.0, 1.0, 5.0]).expand(2, 4, 4)
    assert energy_inside(maps, boxes, 4).tolist() == [0.375, 0.125]


def test_constant_maps_have_no_energy_inside_whatever_their_size() -> None:
    for maps in (torch.full((1, 4, 4), 3.0), torch.tensor([[[7.0]]])):
        assert energy_inside(maps, torch.tensor([[0, 0, 4, 4]]), 4).tolist() == [0]


def test_large_maps_are_as_small_ones() -> None:
    maps = 2 * torch.rand(5, 7, 7, generator=torch.Generator().manual_seed(0)) - 1
    large = maps * 2.0**127
    assert large.isfinite().all()
    boxes = torch.tensor([[3.0, 2.0, 9.0, 11.0]]).expand(5, 4)
    assert torch.equal(energy_inside(large, boxes, 14), energy_inside(maps, boxes, 14))
    assert torch.equal(byte_maps(large, 28), byte_maps(maps, 28))


def test_maps_without_energy_have_none_inside() -> None:
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), -1.0), torch.full((4, 4), torch.nan)])
    maps = torch.cat([maps, torch.eye(4)[None] * torch.inf])
    assert energy_inside(maps, torch.tensor([[0, 0, 4, 4]]).expand(4, 4), 4).tolist() == [0] * 4


def test_byte_maps_span_all_values() -> None:
    maps = (
        torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1e-3, 1, 1e6])[:, None, None]
    )
    found = byte_maps(maps, 20)
    assert (found.dtype, found.shape) == (torch.uint8, (3, 20, 20))
    assert found.flatten(1).amin(1).tolist() == [0] * 3
    assert found.flatten(1).amax(1).tolist() == [255] * 3
    shares = (maps - maps.amin((1, 2), keepdim=True)) / (
        maps.amax((1, 2), keepdim=True) - maps.amin((1, 2), keepdim=True)
    )
    assert torch.equal(byte_maps(maps, 5), (shares * 255).to(torch.uint8))


def test_byte_maps_are_as_opencv_enlarges() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with grad-cam")
    map_ = torch.rand(7, 7, generator=torch.Generator().manual_seed(0))
    enlarged = cv2.resize(map_.numpy(), (50, 50), interpolation=cv2.INTER_CUBIC)
    expected = (enlarged - enlarged.min()) / (enlarged.max() - enlarged.min()) * 255
    assert abs(byte_maps(map_[None], 50)[0].numpy().astype(float) + 0.5 - expected).max() < 0.51


def test_flat_byte_maps_are_zeros() -> None:
    maps = torch.stack([torch.full((4, 4), 7.0), torch.full((4, 4), torch.nan), torch.eye(4)])
    maps[1, 0, 0] = 1.0
    found = byte_maps(maps, 6)
    assert found.flatten(1).amax(1).tolist() == [0, 0, 255]
    assert flat_maps(maps).tolist() == [True, True, False]


def test_counts_maps_that_are_highest_inside_the_box() -> None:
    config = DigitScenesConfig(image_size=16, train_size=60, test_size=30)
    test = load_data(config).test
    assert test is not None
    assert test.boxes is not None
    torch.manual_seed(0)
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8"), num_classes=10, in_channels=1, image_size=16
    )
    loader = batches(test, batch_size=7, training=False, config=config, seed=0, device=torch.device("cpu"))
    everywhere = torch.tensor([[0.0, 0.0, 16.0, 16.0]]).expand(30, 4)
    nowhere = torch.zeros(30, 4)
    assert pointing_scores(classifier, loader, everywhere) == (1.0, 1.0)
    assert pointing_scores(classifier, loader, nowhere) == (0.0, 0.0)
    label_cam, caam = pointing_scores(classifier, loader, test.boxes)
    assert 0 <= label_cam <= 1
    assert 0 <= caam <= 1


def test_a_network_without_maps_is_refused() -> None:
    config = DigitScenesConfig(image_size=32, train_size=60, test_size=4)
    test = load_data(config).test
    assert test is not None
    assert test.boxes is not None
    network = build_classifier(ModelConfig(name="test_vit"), num_classes=10, in_channels=1, image_size=32)
    loader = batches(test, batch_size=4, training=False, config=config, seed=0, device=torch.device("cpu"))
    with pytest.raises(ModelError, match="no class activation map"):
        pointing_scores(network, loader, test.boxes)


def test_maps_that_are_no_numbers_point_nowhere() -> None:
    config = DigitScenesConfig(image_size=16, train_size=60, test_size=9)
    test = load_data(config).test
    assert test is not None
    assert test.boxes is not None
    network = build_classifier(
        ModelConfig(name="kdcam:resnet8"), num_classes=10, in_channels=1, image_size=16
    )
    with torch.no_grad():
        next(network.network.parameters()).fill_(torch.nan)
    loader = batches(test, batch_size=4, training=False, config=config, seed=0, device=torch.device("cpu"))
    with pytest.raises(ModelError, match=r"pointing game: the feature maps of 9 of 9 images are not finite"):
        pointing_scores(network, loader, test.boxes)
