import numpy as np
import pytest
import torch
from small_runs import Watcher
from torch import Tensor

from kdcam.cam.maps import minmax_normalize
from kdcam.data.datasets import batches, load_data
from kdcam.data.object_boxes import boxes_of_source
from kdcam.data.source_configs import DigitScenesConfig
from kdcam.errors import Interrupted, ModelError
from kdcam.evaluation.localization.box_accuracy import (
    BoxTally,
    level_overlaps,
    truncated_pixels,
    whole_pixels,
)
from kdcam.evaluation.localization.localization_measurement import (
    BoxedImages,
    MapOptions,
    batch_maps,
    byte_maps,
    energy_inside,
    map_kind_for,
    measure_localization,
    objects_of,
    pointing_game,
)
from kdcam.explanation.class_maps import explain_image
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.runtime.progress import Silent

OPTIONS = MapOptions("cam", True, 24, "regions")
CLASSES = torch.tensor([2, 0, 1, 2])


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
    return network, BoxedImages(loader, boxes_of_source(test), "")


@pytest.mark.parametrize("multi_label", [False, True])
def test_all_batches_together_are_as_one_by_hand(multi_label: bool) -> None:
    network, sample = scenes(multi_label=multi_label, batch_size=7)
    found = measure_localization(network, sample, OPTIONS, task="measuring", progress=Silent())
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
    # The first ones are kept for a picture, from more than one batch if need be
    assert torch.equal(found.first.boxes, boxes.boxes[:6])
    assert torch.equal(found.first.images, batch.images[boxes.images[:6]])
    assert torch.allclose(found.first.maps, maps[:6], atol=1e-5)


def test_a_network_that_sees_nothing_misses_everything() -> None:
    network, sample = scenes(multi_label=False, batch_size=30)
    with torch.no_grad():
        network.network.get_classifier().weight.zero_()
    found = measure_localization(network, sample, OPTIONS, task="measuring", progress=Silent())
    assert (found.flat_maps, found.pointing, found.energy) == (30, 0, 0)
    assert found.tally.accuracies().v2 == 0


def test_the_map_of_what_the_network_says() -> None:
    network, sample = scenes(multi_label=False, batch_size=30)
    said = measure_localization(
        network, sample, OPTIONS._replace(by_label=False), task="measuring", progress=Silent()
    )
    labelled = measure_localization(network, sample, OPTIONS, task="measuring", progress=Silent())
    assert said.energy != labelled.energy


def test_objects_at_the_upper_left_are_no_hit_of_flat_maps() -> None:
    network, sample = scenes(multi_label=False, batch_size=30)
    with torch.no_grad():
        network.network.get_classifier().weight.zero_()
    corner = torch.tensor([0.0, 0.0, 1.0, 1.0]).double().expand_as(sample.boxes.boxes)
    sample = sample._replace(boxes=sample.boxes._replace(boxes=corner))
    options = OPTIONS._replace(resolution=16)
    assert (
        measure_localization(network, sample, options, task="measuring", progress=Silent())
        .tally.accuracies()
        .v2
        == 0
    )


def test_it_stops_when_asked() -> None:
    network, sample = scenes(multi_label=False, batch_size=7)
    with pytest.raises(Interrupted, match=r"the evaluation was stopped; nothing of it is kept"):
        measure_localization(network, sample, OPTIONS, task="measuring", progress=Watcher(stop_after=2))
    assert network.training


def test_the_rule_decides_which_whole_pixels_are_measured() -> None:
    network, sample = scenes(multi_label=False, batch_size=30)
    first = {}
    for contours in ("regions", "wsol"):
        options = OPTIONS._replace(resolution=40, contours=contours)
        measured = measure_localization(network, sample, options, task="measuring", progress=Silent())
        first[contours] = objects_of(measured.first, options)
    boxes = sample.boxes.boxes[:6].numpy()
    assert np.array_equal(first["regions"], whole_pixels(boxes, 16, 40))
    assert np.array_equal(first["wsol"], truncated_pixels(boxes, np.ones((6, 1, 2)), 16, 40))
    assert not np.array_equal(first["wsol"], first["regions"])


def network(name: str, size: int) -> Classifier:
    torch.manual_seed(0)
    return build_classifier(ModelConfig(name=name), num_classes=3, in_channels=3, image_size=size).eval()


@pytest.fixture(scope="module")
def small() -> Classifier:
    return network("kdcam:resnet8", 16)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ["cam", "gradcam", "hirescam"])
def test_each_image_has_the_map_that_explain_shows(small: Classifier, images: Tensor, kind) -> None:
    found = batch_maps(small, images, CLASSES, kind)
    for image, number, map_ in zip(images, CLASSES.tolist(), found, strict=True):
        alone = explain_image(small, image, method=kind, chosen=(number,)).class_maps[0]
        # explain's CAM has the class's bias on it, which moves the whole map
        assert torch.allclose(minmax_normalize(map_), minmax_normalize(alone), atol=1e-4)


def test_the_agnostic_map_and_that_of_what_the_network_says(small: Classifier, images: Tensor) -> None:
    alone = explain_image(small, images[0], method="cam")
    assert torch.allclose(batch_maps(small, images, CLASSES, "caam")[0], alone.caam, rtol=1e-4)
    says = small(images).argmax(1)
    for kind in ("cam", "gradcam"):
        assert torch.equal(batch_maps(small, images, None, kind), batch_maps(small, images, says, kind))


def test_no_gradient_stays_and_none_is_needed(small: Classifier, images: Tensor) -> None:
    with torch.inference_mode():
        found = batch_maps(small, images + 0, CLASSES, "gradcam")
    assert not found.requires_grad
    assert all(parameter.grad is None for parameter in small.parameters())


def test_gradcam_where_there_is_no_exact_cam() -> None:
    mobilenet = network("mobilenetv3_small_050", 64)
    assert map_kind_for(mobilenet, "cam") == "gradcam"
    assert map_kind_for(mobilenet, "caam") == "caam"
    assert map_kind_for(mobilenet, "hirescam") == "hirescam"
    maps = batch_maps(mobilenet, torch.rand(4, 3, 64, 64), CLASSES, "gradcam")
    assert maps.shape == (4, 2, 2)


def test_networks_with_an_exact_cam_keep_what_is_asked(small: Classifier) -> None:
    assert [map_kind_for(small, kind) for kind in ("cam", "caam", "gradcam")] == ["cam", "caam", "gradcam"]


def test_of_a_network_of_tokens_their_grid_is_measured() -> None:
    vit = network("test_vit", 64)
    assert map_kind_for(vit, "cam") == "gradcam"
    images = torch.rand(4, 3, 64, 64)
    found = batch_maps(vit, images, CLASSES, "gradcam")
    alone = explain_image(vit, images[1], method="gradcam", chosen=(0,)).class_maps[0]
    assert torch.allclose(found[1], alone, rtol=1e-4, atol=1e-6 * float(alone.max()))
    assert batch_maps(vit, images, CLASSES, "caam").shape == (4, 4, 4)


def test_a_network_without_a_map_is_refused() -> None:
    with pytest.raises(ModelError, match=r"'torchvision:vit_b_32' has neither a \(N, C, H, W\) map"):
        map_kind_for(network("torchvision:vit_b_32", 32), "caam")


@pytest.mark.parametrize("kind", ["cam", "caam", "gradcam", "hirescam"])
@pytest.mark.parametrize("classes", [CLASSES, None])
def test_a_network_that_gives_no_numbers_has_no_maps(images: Tensor, kind, classes: Tensor | None) -> None:
    broken = network("kdcam:resnet8", 16)
    with torch.no_grad():
        list(broken.network.parameters())[-1][1] = torch.inf  # the bias of one class
    with pytest.raises(ModelError, match=r"the logits of 4 of 4 images are not finite"):
        batch_maps(broken, images, classes, kind)
