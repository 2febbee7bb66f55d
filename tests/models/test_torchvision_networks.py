import torch
from torch import nn

from kdcam.models.torchvision_networks import (
    MAP_NODES,
    TorchvisionReader,
    build_torchvision,
    torchvision_names,
    torchvision_statistics,
)


def build(name: str, channels: int = 3, **rates: float) -> nn.Module:
    torch.manual_seed(0)
    return build_torchvision(
        name, pretrained=False, num_classes=4, in_channels=channels, image_size=32, rates=rates
    )


def test_dropout_is_traced_in_both_modes() -> None:
    network = build("mobilenet_v2", dropout=0.5)
    reader = TorchvisionReader("mobilenet_v2", network)
    images = torch.rand(2, 3, 32, 32)
    network.train()
    assert (reader(network, images, stages=False).embedding == 0).float().mean() > 0.3
    network.eval()
    assert torch.equal(
        reader(network, images, stages=False).logits, reader(network, images, stages=False).logits
    )


def test_functional_dropout_is_traced_in_both_modes() -> None:
    network = build("densenet121")
    reader = TorchvisionReader("densenet121", network)
    images = torch.rand(2, 3, 32, 32)
    for mode in (True, False):
        network.train(mode)
        torch.testing.assert_close(reader(network, images, stages=False).logits, network(images))


def test_frozen_batch_norm_stays_frozen() -> None:
    network = build("resnet18")
    reader = TorchvisionReader("resnet18", network)
    network.train()
    norm = network.get_submodule("bn1").eval()
    before = norm.get_buffer("running_mean").clone()
    reader(network, torch.rand(2, 3, 32, 32), stages=False)
    assert torch.equal(norm.get_buffer("running_mean"), before)
    assert network.get_submodule("layer1.0.bn1").get_buffer("num_batches_tracked") == 1


def test_tracing_leaves_the_network_as_it_was() -> None:
    network = build("resnet18")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    TorchvisionReader("resnet18", network)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


def test_grey_images_answer_as_in_three_channels() -> None:
    from kdcam.models.torchvision_networks import _replace_first_convolution

    network = build("resnet18").eval()
    grey = torch.rand(2, 1, 32, 32)
    expected = network(grey.expand(-1, 3, -1, -1))
    _replace_first_convolution(network, 1, keep_response=True)
    torch.testing.assert_close(network(grey), expected, rtol=1e-4, atol=1e-5)


def test_every_name_is_a_classifier_of_a_known_family() -> None:
    names = torchvision_names()
    assert names == sorted(names)
    assert {"resnet18", "vgg11", "vit_b_16"} <= set(names)
    assert not [name for name in names if name.startswith(("quantized", "fcn", "deeplab", "r3d"))]
    for family in MAP_NODES:
        assert any(name.startswith(family) for name in names), family


def test_statistics() -> None:
    assert torchvision_statistics("resnet18").mean == (0.485, 0.456, 0.406)
    # ImageNet's statistics, which transform_input would turn into these, are not applied twice.
    assert torchvision_statistics("inception_v3").mean == (0.5, 0.5, 0.5)
