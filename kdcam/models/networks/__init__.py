"""kdcam's own networks in one table, under the names that follow ``kdcam:`` in a recipe.

They are the networks for 32-pixel images on which the distillation literature compares, with the parameter names
of HobbitLong/RepDistiller, so that its checkpoints and those of megvii-research/mdistiller fit; and residual
networks with a stem of stride 2 for work on a CPU. Each family has its own file.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from kdcam.models.networks.cifar_mobilenet import CIFAR_MOBILENETS, CifarMobileNetV2
from kdcam.models.networks.cifar_resnet import (
    BOTTLENECK_RESNETS,
    CIFAR_RESNETS,
    FAST_RESNETS,
    CifarBottleneckResNet,
    CifarResNet,
)
from kdcam.models.networks.cifar_shufflenet import (
    SHUFFLENETS_V1,
    SHUFFLENETS_V2,
    CifarShuffleNetV1,
    CifarShuffleNetV2,
)
from kdcam.models.networks.cifar_vgg import CIFAR_VGGS, CifarVgg
from kdcam.models.networks.pooled_network import PooledNetwork
from kdcam.models.networks.wide_resnet import WIDE_RESNETS, WideResNet


class CifarNetwork(NamedTuple):
    """How a network is built, and where its two ends are."""

    build: Callable[..., PooledNetwork]  # of num_classes, in_chans and drop_rate
    classifier: str  # name of its last layer
    first_conv: str


def build_cifar(
    name: str, *, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0
) -> PooledNetwork:
    """Return a network of `CIFAR_NETWORKS` by name, with random weights from torch's default generator."""
    return CIFAR_NETWORKS[name].build(num_classes=num_classes, in_chans=in_chans, drop_rate=drop_rate)


def _networks(family: type[PooledNetwork], specs: Mapping[str, Any]) -> dict[str, CifarNetwork]:
    return {
        name: CifarNetwork(partial(family, spec), family.classifier_name, family.first_conv)
        for name, spec in specs.items()
    }


CIFAR_NETWORKS: dict[str, CifarNetwork] = {
    **_networks(CifarResNet, CIFAR_RESNETS),
    **_networks(CifarBottleneckResNet, BOTTLENECK_RESNETS),
    **_networks(WideResNet, WIDE_RESNETS),
    **_networks(CifarVgg, CIFAR_VGGS),
    **_networks(CifarMobileNetV2, CIFAR_MOBILENETS),
    **_networks(CifarShuffleNetV1, SHUFFLENETS_V1),
    **_networks(CifarShuffleNetV2, SHUFFLENETS_V2),
    **_networks(CifarResNet, FAST_RESNETS),
}

__all__ = ["CIFAR_NETWORKS", "CifarNetwork", "build_cifar"]
