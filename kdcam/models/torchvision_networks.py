"""torchvision's classifiers: built by name, their feature map and embedding read without hooks.

The graphs that torchvision's feature extraction traces are run on the network itself: it stays torchvision's
own module with its own state-dict keys, and can be copied, moved and put into any mode.
"""

from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from kdcam.errors import ModelError
from kdcam.models.classifier import Outputs, Preprocessing
from kdcam.models.weights.download import check_fetchable

MAP_NODES = {
    "resnet": "layer4",
    "resnext": "layer4",
    "wide_resnet": "layer4",
    "densenet": "relu",
    "mobilenet_v2": "features",
    "efficientnet": "features",
    "regnet": "trunk_output",
    "shufflenet": "conv5",
    "mnasnet": "layers",
    "googlenet": "inception5b",
    "inception": "Mixed_7c",
    "vgg": "features",
    "mobilenet_v3": "features",
    "convnext": "features",
    "squeezenet": "features",
    "alexnet": "features",
}
"""The node of the traced graph that is the map before global pooling, by how the network's name begins."""

STAGE_NODES = ("layer1", "layer2", "layer3")
"""The earlier maps of ResNet, ResNeXt and Wide ResNet; kdcam reads no others from torchvision."""

NO_EXACT_CAM = ("alexnet", "convnext", "maxvit", "mobilenet_v3", "squeezenet", "swin", "vgg", "vit")
"""The families, by how the name begins, whose classifier does not read the mean of one (N, C, H, W) map."""

_PRETRAINED_CLASSES = 1000
_HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# It reads a buffer through a function, which tracing copies.
_UNTRACEABLE = ("RelativePositionalMultiHeadAttention",)


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classifiers, sorted."""
    from torchvision import models  # here: it takes seconds

    names: list[str] = models.list_models(module=models)
    return sorted(names)


def build_torchvision(
    name: str,
    *,
    pretrained: bool,
    num_classes: int,
    in_channels: int,
    image_size: int,
    rates: dict[str, float],
) -> nn.Module:
    """Return torchvision's own network, in train mode.

    Args:
        name: a name in `torchvision_names`.
        pretrained: start from torchvision's default weights, which may be downloaded; the classifier is fresh
            where the class count is not theirs, the first convolution adapted where channels are not three.
        num_classes: of the classifier.
        in_channels: of the images.
        image_size: in pixels, for networks that are built for one size.
        rates: ``dropout`` and ``stochastic_depth_prob`` where they are set.

    Raises ``ModelError`` where the network takes no such rate or its weights cannot be fetched.
    """
    from torchvision import models  # here: it takes seconds

    options: dict[str, Any] = {**rates, **_family_options(name, image_size, pretrained)}
    if pretrained:
        check_fetchable(f"torchvision:{name}", models.get_model_weights(name).DEFAULT.url)
    try:
        if pretrained:
            network: nn.Module = models.get_model(name, weights="DEFAULT", **options)
        else:
            network = models.get_model(name, weights=None, num_classes=num_classes, **options)
    except TypeError as error:
        raise ModelError(
            f"model.name: torchvision:{name} takes no {' or '.join(rates)} ({error}); leave out "
            "model.drop_rate and model.drop_path_rate"
        ) from error
    except OSError as error:
        raise ModelError(
            f"model.pretrained: the weights of torchvision:{name} cannot be fetched ({error}); set "
            "pretrained = false or name a local file in model.weights"
        ) from error
    if pretrained and name.startswith("inception"):
        network.aux_logits, network.AuxLogits = False, None  # type: ignore[assignment]  # as without weights
    if pretrained and num_classes != _PRETRAINED_CLASSES:
        _replace_head(network, num_classes)
    if in_channels != 3:
        _replace_first_convolution(network, in_channels, keep_response=pretrained)
    return network


def torchvision_statistics(name: str) -> Preprocessing:
    """Return the statistics that torchvision's weights of a network were trained with."""
    from torchvision import models  # here: it takes seconds

    if name.startswith(("googlenet", "inception")):
        return _HALF  # what their transform_input, which is off here, turns ImageNet's statistics into
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    return Preprocessing(tuple(transforms.mean), tuple(transforms.std))


class TorchvisionReader:
    """Runs a torchvision network along its traced graph and hands out map, embedding and logits."""

    def __init__(self, name: str, network: nn.Module) -> None:
        self._head = _last_linear(network)
        returned = {"logits": self._head or "flatten"}  # SqueezeNet: convolution, pooling, flatten
        if family := max((start for start in MAP_NODES if name.startswith(start)), key=len, default=""):
            returned["feature_map"] = MAP_NODES[family]
            if MAP_NODES[family] == "layer4":
                returned |= {node: node for node in STAGE_NODES}
        self._graphs = _trace(network, returned)
        if self._head is not None:
            for graph in self._graphs.values():
                _return_embedding(graph)

    def __call__(self, network: nn.Module, images: Tensor, /, *, stages: bool) -> Outputs:
        """Return the outputs for normalised images; ``stages``: the earlier maps too, of ResNets."""
        # Functional dropout is traced as it is in one mode, hence a graph for each.
        parts = fx.Interpreter(network, graph=self._graphs[network.training]).run(images)
        feature_map: Tensor | None = parts.get("feature_map")
        earlier = tuple(parts[node] for node in STAGE_NODES if stages and node in parts)
        if self._head is None:
            return Outputs(
                parts["logits"], parts["feature_map"].mean((2, 3)), feature_map, None, None, earlier
            )
        head = network.get_submodule(self._head)
        assert isinstance(head, nn.Linear)
        return Outputs(parts["logits"], parts["embedding"], feature_map, head.weight, head.bias, earlier)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: it holds no weights and never changes."""
        return self


def _family_options(name: str, image_size: int, pretrained: bool) -> dict[str, Any]:
    if name.startswith(("googlenet", "inception")):
        options: dict[str, Any] = {"transform_input": False}
        return options if pretrained else {**options, "aux_logits": False, "init_weights": True}
    if name.startswith("vit") and not pretrained:
        return {"image_size": image_size}
    if name.startswith("maxvit") and not pretrained:
        return {"input_size": (image_size, image_size)}
    return {}


def _trace(network: nn.Module, returned: dict[str, str]) -> dict[bool, fx.Graph]:
    """Return the network's graph in train mode (True) and in eval mode (False)."""
    from torchvision.models.feature_extraction import create_feature_extractor  # here: it takes seconds

    leaves = [type(module) for module in network.modules() if type(module).__name__ in _UNTRACEABLE]
    nodes = {node: part for part, node in returned.items()}
    was_training = network.training
    extractor = create_feature_extractor(
        network,
        train_return_nodes=nodes,
        eval_return_nodes=nodes,
        tracer_kwargs={"leaf_modules": leaves},
        suppress_diff_warning=True,
    )
    graphs: dict[bool, fx.Graph] = {}
    for training in (True, False):
        extractor.train(training)
        graphs[training] = extractor.graph
    network.train(was_training)
    return graphs


def _return_embedding(graph: fx.Graph) -> None:
    """Let a graph return the classifier's input beside what it returns already."""
    (output,) = graph.find_nodes(op="output")
    parts = output.args[0]
    output.args = ({**parts, "embedding": parts["logits"].args[0]},)


def _last_linear(network: nn.Module) -> str | None:
    linear = [name for name, module in network.named_modules() if type(module) is nn.Linear]
    return linear[-1] if linear else None


def _replace_head(network: nn.Module, num_classes: int) -> None:
    """Put a fresh classifier of another class count in place of a pretrained one."""
    name = _last_linear(network)
    if name is not None:
        old: nn.Module = network.get_submodule(name)
        assert isinstance(old, nn.Linear)
        network.set_submodule(name, nn.Linear(old.in_features, num_classes))
        return
    last = [name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)][-1]
    convolution = network.get_submodule(last)
    assert isinstance(convolution, nn.Conv2d)
    network.set_submodule(last, nn.Conv2d(convolution.in_channels, num_classes, kernel_size=1))


def _replace_first_convolution(network: nn.Module, in_channels: int, *, keep_response: bool) -> None:
    """Give the first convolution another channel count, with fresh weights or the mean of the old ones.

    ``keep_response``: a grey image in the new channels answers as it did in three equal channels.
    """
    name, old = next(
        (name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)
    )
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        kernel_size=old.kernel_size,  # type: ignore[arg-type]  # pairs, typed as of any length
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    with torch.no_grad():
        if keep_response:
            new.weight.copy_((old.weight.mean(1, keepdim=True) * (3 / in_channels)).expand_as(new.weight))
        else:
            nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    network.set_submodule(name, new)


__all__ = [
    "MAP_NODES",
    "NO_EXACT_CAM",
    "TorchvisionReader",
    "build_torchvision",
    "torchvision_names",
    "torchvision_statistics",
]
