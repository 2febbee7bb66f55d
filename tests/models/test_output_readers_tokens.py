"""Tests of kdcam.models.output_readers."""

import pytest
import torch

from kdcam.errors import ModelError
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.models.output_readers import spatial_reader


def classifier(name: str, *, size: int = 64) -> Classifier:
    torch.manual_seed(0)
    config = ModelConfig(name=name)
    return build_classifier(config, num_classes=3, in_channels=3, image_size=size).eval()


def test_a_feature_map_stays_what_it_is() -> None:
    model = classifier("kdcam:resnet8")
    reader, images = spatial_reader(model), torch.rand(2, 3, 64, 64)
    assert reader.what is None
    found, expected = reader(images), model.outputs(images)
    assert torch.equal(found.feature_map, expected.feature_map)
    assert found.weight is expected.weight
    assert (reader.channels, reader.height, reader.width) == expected.feature_map.shape[1:]


@pytest.mark.parametrize(
    ("name", "what", "size"),
    [
        ("test_vit", "the tokens that its last attention reads", 64),
        ("deit_tiny_distilled_patch16_224", "the tokens that its last attention reads", 64),
        ("vit_relpos_small_patch16_224", "its last tokens", 64),
        ("mixer_s32_224", "its last tokens", 224),
        ("swin_tiny_patch4_window7_224", "its last tokens", 224),
    ],
)
def test_tokens_are_laid_out_and_lead_to_the_logits(name: str, what: str, size: int) -> None:
    model = classifier(name, size=size)
    reader, images = spatial_reader(model), torch.rand(2, 3, size, size)
    assert reader.what == what
    outputs = reader(images)
    with torch.no_grad():
        torch.testing.assert_close(outputs.logits, model(images), rtol=1e-3, atol=1e-4)
    assert outputs.feature_map.shape == (2, reader.channels, reader.height, reader.width)
    (gradient,) = torch.autograd.grad(outputs.embedding.square().sum(), outputs.feature_map)
    assert gradient.abs().amax(1).all()  # every place is read
    assert model.outputs(images).feature_map is None  # losses on maps stay refused
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_grid_lies_as_the_image_does() -> None:
    model = classifier("vit_relpos_small_patch16_224")
    reader = spatial_reader(model)
    with torch.no_grad():
        maps = model.network.forward_intermediates(
            torch.rand(1, 3, 64, 64), indices=1, intermediates_only=True
        )[0]
        plain, marked = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
        marked[:, :, 16:32, 48:] = 1
        moved = (reader(marked).feature_map - reader(plain).feature_map).abs().sum(1)[0]
    assert maps.shape[2:] == (4, 4)
    assert divmod(int(moved.argmax()), 4) == (1, 3)


def test_nothing_is_kept_where_no_gradient_is() -> None:
    model = classifier("test_vit")
    reader = spatial_reader(model)
    with torch.no_grad():
        assert not reader(torch.rand(1, 3, 64, 64)).feature_map.requires_grad
    with torch.inference_mode():
        assert spatial_reader(model).what == reader.what


@pytest.mark.parametrize("name", ["torchvision:vit_b_32", "cait_xxs24_224", "pit_ti_224"])
def test_networks_with_neither_are_named(name: str) -> None:
    model = classifier(name, size=224)
    state = torch.get_rng_state()
    with pytest.raises(
        ModelError, match=rf"'{name}' has neither a \(N, C, H, W\) map .* nor a grid of tokens"
    ):
        spatial_reader(model)
    assert torch.equal(torch.get_rng_state(), state)
