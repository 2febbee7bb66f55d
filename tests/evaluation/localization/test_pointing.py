import pytest
import torch

from kdcam.data.datasets import batches, load_data
from kdcam.data.source_configs import DigitScenesConfig
from kdcam.errors import ModelError
from kdcam.evaluation.localization.pointing_game import pointing_scores
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig


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
