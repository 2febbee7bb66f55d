import numpy as np
import pytest
import torch
from small_runs import Watcher

from kdcam.cam.localization import byte_maps, energy_inside, pointing_game
from kdcam.data.boxes import boxes_of_source
from kdcam.data.config import DigitScenesConfig
from kdcam.data.datasets import batches, load_data
from kdcam.errors import Interrupted
from kdcam.localization.batch_maps import batch_maps
from kdcam.localization.box_accuracy import BoxTally, level_overlaps
from kdcam.localization.measuring import HowToLook, Sample, measure, whole_pixels
from kdcam.models.build import ModelConfig, build_classifier
from kdcam.progress import Silent

LOOK = HowToLook("cam", True, 24, "regions")


def scenes(*, multi_label: bool, batch_size: int):
    config = DigitScenesConfig(image_size=16, train_size=60, test_size=30, multi_label=multi_label)
    test = load_data(config).test
    loader = batches(
        test, batch_size=batch_size, training=False, config=config, seed=0, device=torch.device("cpu")
    )
    torch.manual_seed(0)
    network = build_classifier(
        ModelConfig(name="kdcam:resnet8"), num_classes=10, in_channels=1, image_size=16
    )
    return network, Sample(loader, boxes_of_source(test))


@pytest.mark.parametrize("multi_label", [False, True])
def test_all_batches_together_are_as_one_by_hand(multi_label: bool) -> None:
    network, sample = scenes(multi_label=multi_label, batch_size=7)
    found = measure(network, sample, LOOK, task="measuring", progress=Silent())
    assert network.training
    network.eval()
    (batch,) = scenes(multi_label=multi_label, batch_size=30)[1].batches.epoch(0)
    boxes = sample.boxes
    maps = batch_maps(network, batch.images[boxes.images], boxes.classes, "cam")
    tally = BoxTally()
    tally.add(level_overlaps(byte_maps(maps, 24).numpy(), whole_pixels(boxes.boxes.numpy(), 16, 24)))
    assert abs(found.tally.hits - tally.hits).max() <= 1  # rounding may move a value over a level
    assert (found.maps, found.images) == (len(maps), 30)
    assert found.pointing == float(pointing_game(maps, boxes.boxes, 16).double().mean())
    assert found.energy == pytest.approx(float(energy_inside(maps, boxes.boxes, 16).mean()))
    assert found.flat_maps == 0


def test_a_network_that_sees_nothing_misses_everything() -> None:
    network, sample = scenes(multi_label=False, batch_size=30)
    with torch.no_grad():
        network.network.get_classifier().weight.zero_()
    found = measure(network, sample, LOOK, task="measuring", progress=Silent())
    assert (found.flat_maps, found.pointing, found.energy) == (30, 0, 0)
    assert found.tally.accuracies().v2 == 0


def test_the_map_of_what_the_network_says() -> None:
    network, sample = scenes(multi_label=False, batch_size=30)
    said = measure(network, sample, LOOK._replace(by_label=False), task="measuring", progress=Silent())
    labelled = measure(network, sample, LOOK, task="measuring", progress=Silent())
    assert said.energy != labelled.energy


def test_it_stops_when_asked() -> None:
    network, sample = scenes(multi_label=False, batch_size=7)
    with pytest.raises(Interrupted, match=r"the evaluation was stopped; nothing of it is kept"):
        measure(network, sample, LOOK, task="measuring", progress=Watcher(stop_after=2))
    assert network.training


def test_whole_pixels_are_cut_down_and_keep_one() -> None:
    boxes = np.array([[[0, 0, 48, 48], [3.5, 4.2, 10.9, 12.0], [7.1, 7.2, 7.3, 7.4], [47.9, 47.9, 48, 48]]])
    assert whole_pixels(boxes, 48, 48)[0].tolist() == [[0, 0, 47, 47], [3, 4, 9, 11], [7, 7, 7, 7], [47] * 4]
    assert whole_pixels(boxes, 48, 96)[0, 1].tolist() == [7, 8, 20, 23]
    assert np.isnan(whole_pixels(np.full((1, 1, 4), np.nan), 48, 48)).all()
