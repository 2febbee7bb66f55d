"""Folding: a frozen network's BatchNorms into its convolutions, a head of unit weights into a plain linear layer."""

import copy
import inspect
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from kdcam.errors import ModelError
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.heads import Head, logits_layer_name
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights.safetensors_files import load_exactly
from kdcam.runtime.eval_mode import eval_mode

# Of the largest magnitude of an output. Rounding alone gives 3e-7 to 1e-6 on trained networks. Deep ones with random
# weights and the statistics of a batch reach 5e-5 (resnet110), as far as they are from float64 without folding, and
# stay as they are.
FOLDING_TOLERANCE = 1e-5

# By name, as importing timm takes seconds. Other subclasses use their weights in ways of their own.
_CONVOLUTIONS = ("Conv2d", "Conv2dSame")
_NORMS = ("BatchNorm2d", "BatchNormAct2d")


class FrozenClassifier(NamedTuple):
    """A classifier without gradients, and what was folded in it."""

    classifier: Classifier
    folded: int  # BatchNorms that are part of a convolution now
    difference: float  # the largest of an output, as a share of its magnitude; 0 where nothing was tried
    reason: str | None  # why nothing is folded; None where something is


class FoldablePair(NamedTuple):
    """A convolution and the BatchNorm that alone reads it, by their names in the network."""

    convolution: str
    norm: str


def freeze_and_fold(classifier: Classifier) -> FrozenClassifier:
    """Return the same classifier, changed in place: no gradients, and BatchNorms folded where that is proven.

    In eval mode a BatchNorm multiplies each channel and adds to it, which the convolution before it can do for nothing.
    The modules are replaced one by one and keep their names, so that a network's methods and readers work as before.

    Two random images show that logits, embedding, map and stages stay the same within `FOLDING_TOLERANCE`; otherwise,
    and where the network cannot be traced, all modules stay as they were and ``reason`` says why. The state dict of a
    folded network has other keys, so it is not for saving. The random state stays as it is.

    Raises ``ValueError`` for a classifier in train mode.
    """
    if classifier.training:
        raise ValueError("a classifier in train mode cannot be frozen; call its eval() first")
    classifier.requires_grad_(False)
    device = classifier.mean.device
    # CUDA's convolutions round to TF32, which would hide what is to be proven; MPS has no float64.
    classifier.to("cpu")
    try:
        return _fold_proven(classifier)
    except Exception as error:  # foreign code meets symbolic values and may raise anything
        cause = f"{type(error).__name__}: {error}".partition("\n")[0]
        return FrozenClassifier(classifier, 0, 0.0, f"it cannot be traced or run folded ({cause})")
    finally:
        classifier.to(device)


def foldable_pairs(network: nn.Module) -> list[FoldablePair]:
    """Return the pairs that one forward in eval mode calls once, in order, with nothing else that reads them.

    Left out are modules with hooks, modules that have two names, and BatchNorms in train mode or without running
    statistics. The network stays untouched. Raises whatever its forward raises of symbolic values.
    """
    modules = dict(network.named_modules())
    if not any(isinstance(module, nn.BatchNorm2d) for module in modules.values()):
        return []
    nodes = list(_traced(network).nodes)
    calls = Counter(str(node.target) for node in nodes if node.op == "call_module")
    names = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    read = {str(node.target).rpartition(".")[0] for node in nodes if node.op == "get_attr"}

    def is_plain(name: str) -> bool:
        module = modules[name]
        hooked = module._forward_hooks or module._forward_pre_hooks  # such as weight normalisation
        return calls[name] == 1 and names[id(module)] == 1 and name not in read and not hooked

    return [
        pair
        for pair in map(_pair, nodes)
        if pair is not None
        and _is_convolution(modules[pair.convolution])
        and _is_fixed_norm(modules[pair.norm])
        and is_plain(pair.convolution)
        and is_plain(pair.norm)
    ]


def _fold_proven(classifier: Classifier) -> FrozenClassifier:
    pairs = foldable_pairs(classifier.network)
    if not pairs:
        return FrozenClassifier(classifier, 0, 0.0, "no BatchNorm follows a convolution that it alone reads")
    before = _answers(classifier)
    with ExitStack() as undo:
        for pair in pairs:
            undo.callback(_fold(classifier.network, pair))
        difference = _largest_difference(before, _answers(classifier))
        if difference <= FOLDING_TOLERANCE:
            undo.pop_all()
            return FrozenClassifier(classifier, len(pairs), difference, None)
    return FrozenClassifier(classifier, 0, difference, f"its outputs would change by {difference:.1g}")


def _fold(network: nn.Module, pair: FoldablePair) -> Callable[[], None]:
    """Fold a pair and return what puts it back."""
    convolution, norm = network.get_submodule(pair.convolution), network.get_submodule(pair.norm)
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    weight, bias = convolution.weight, convolution.bias

    def undo() -> None:
        convolution.weight, convolution.bias = weight, bias
        network.set_submodule(pair.norm, norm)

    convolution.weight, convolution.bias = _folded_parameters(convolution, norm)
    network.set_submodule(pair.norm, _what_remains(norm))
    return undo


def _folded_parameters(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[nn.Parameter, nn.Parameter]:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight, bias = fuse_conv_bn_weights(
        convolution.weight.double(),
        None if convolution.bias is None else convolution.bias.double(),
        mean.double(),
        variance.double(),
        norm.eps,
        None if norm.weight is None else norm.weight.double(),
        None if norm.bias is None else norm.bias.double(),
    )
    old = convolution.weight
    # Copied, not cast: strides of the old weight, and so channels_last, stay also where a size of 1 leaves a choice.
    return (
        nn.Parameter(torch.empty_like(old).copy_(weight), requires_grad=False),
        nn.Parameter(bias.to(old.dtype), requires_grad=False),
    )


def _what_remains(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what a BatchNorm does beside normalising: timm's BatchNormAct2d drops and activates."""
    parts = [getattr(norm, "drop", nn.Identity()), getattr(norm, "act", nn.Identity())]
    rest = [part for part in parts if not isinstance(part, nn.Identity)]
    return (nn.Sequential(*rest) if len(rest) > 1 else rest[0] if rest else nn.Identity()).eval()


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and type(module).__name__ in _CONVOLUTIONS


def _is_fixed_norm(module: nn.Module) -> bool:
    if not isinstance(module, nn.BatchNorm2d) or type(module).__name__ not in _NORMS:
        return False
    return not module.training and module.running_mean is not None and module.running_var is not None


def _pair(node: fx.Node) -> FoldablePair | None:
    """Return the names of a module and of the module that is all that reads its output; None where it is not so."""
    if node.op != "call_module" or len(node.users) != 1:
        return None
    (reader,) = node.users
    if reader.op != "call_module" or reader.args != (node,) or reader.kwargs:
        return None
    return FoldablePair(str(node.target), str(reader.target))


class _Tracer(fx.Tracer):
    """Looks only into what holds a BatchNorm: attention and the like are full of what cannot be traced."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        norms = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
        self._opened = {
            ".".join(parts[:length])
            for parts in (name.split(".") for name in norms)
            for length in range(len(parts))
        }

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is taken as a whole."""
        return not isinstance(m, nn.Sequential) and module_qualified_name not in self._opened


def _traced(network: nn.Module) -> fx.Graph:
    """Return the graph of a network's forward; optional arguments have their defaults."""
    # A copy, since tracing may leave attributes behind; its tensors are the network's own.
    shared: dict[int, Any] = {id(one): one for one in chain(network.parameters(), network.buffers())}
    parameters = inspect.signature(network.forward).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
    with torch.random.fork_rng(devices=[]):
        return _Tracer(network).trace(copy.deepcopy(network, shared), concrete_args=defaults or None)


def _answers(classifier: Classifier) -> list[Tensor]:
    """Return logits and all outputs for two random images, in eval mode."""
    shape = (2, classifier.in_channels, classifier.image_size, classifier.image_size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with (
        eval_mode(classifier),
        torch.random.fork_rng(devices=[]),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
    ):
        # forward and outputs take different ways through a network.
        logits, outputs = classifier(images), classifier.outputs(images, stages=True)
    maps = [outputs.feature_map, outputs.channel_attention, *outputs.stages, *outputs.published_stages]
    return [logits, outputs.logits, outputs.embedding, *(one for one in maps if one is not None)]


def _largest_difference(before: list[Tensor], after: list[Tensor]) -> float:
    """Return the largest difference as a share of the tensor's largest magnitude; infinite where it is no number."""
    shares = [
        (new - old).abs().max() / old.abs().max().clamp(min=torch.finfo(old.dtype).tiny)
        for old, new in zip(before, after, strict=True)
    ]
    return torch.stack(shares).nan_to_num(nan=torch.inf, posinf=torch.inf).max().item()


class FoldedHead(NamedTuple):
    """A classifier with a linear layer, and what is different."""

    classifier: Classifier
    change: str | None  # what its logits mean that the original's do not; None: they are the same


def fold_head(classifier: Classifier) -> FoldedHead:
    """Return the classifier with a plain linear layer in its head's place; itself where it has one already.

    A head's weights and bias become the layer's. Of a cosine head, which divides by the embedding's length as no
    linear layer can, the unit weights are taken: the same class wins, with other confidences.

    Raises ``ModelError`` where the network's own linear layer has no bias and the head needs one.
    """
    network: Any = classifier.network
    layer_name = logits_layer_name(network)
    head = None if layer_name is None else network.get_submodule(layer_name)
    if not isinstance(head, Head):
        return FoldedHead(classifier, None)
    with torch.no_grad():
        weight, bias = head.linear()
    change = None
    if head.reads_direction:
        scale = classifier.config.scale
        weight = weight / scale
        same = "top-1 is" if classifier.task == "single-label" else "decisions at 0.5 are"
        change = (
            f"logits are the embedding's length times the cosine, not {scale:g} times it: {same} the same, "
            "confidences and the order of images by them are not"
        )
    linear = _with_linear_layer(classifier)
    tensors = network.state_dict() | {f"{layer_name}.weight": weight}
    if f"{layer_name}.bias" in linear.network.state_dict():
        tensors[f"{layer_name}.bias"] = torch.zeros(len(weight)) if bias is None else bias
    elif bias is not None:
        raise ModelError(
            f"model.head: the linear layer of {classifier.config.name!r} has no bias, which "
            f"{classifier.config.head!r} needs; export it in another format"
        )
    load_exactly(linear.network, tensors, source="the folded head", what=classifier.config.name)
    return FoldedHead(linear.eval(), change)


def _with_linear_layer(classifier: Classifier) -> Classifier:
    mean, std = classifier.preprocessing
    changes = {"pretrained": False, "weights": None, "mean": mean, "std": std, "head": "linear"}
    usual = {"scale": ModelConfig().scale}
    with torch.random.fork_rng(devices=[]):
        return build_classifier(
            classifier.config.model_copy(update=changes | usual),
            num_classes=classifier.num_classes,
            in_channels=classifier.in_channels,
            image_size=classifier.image_size,
            label_names=classifier.label_names,
            task=classifier.task,
        )


__all__ = [
    "FOLDING_TOLERANCE",
    "FoldablePair",
    "FoldedHead",
    "FrozenClassifier",
    "fold_head",
    "foldable_pairs",
    "freeze_and_fold",
]
