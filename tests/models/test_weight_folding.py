import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from kdcam.models import Classifier, ModelConfig, build_classifier
from kdcam.models.classifier import Preprocessing
from kdcam.models.output_readers import read_linear_head
from kdcam.models.weight_folding import FOLDING_TOLERANCE, FoldablePair, foldable_pairs, freeze_and_fold

NETWORKS = [  # name, image size, BatchNorms folded, BatchNorms left
    ("kdcam:resnet8", 32, 9, 0),
    ("kdcam:vgg13", 32, 10, 0),
    ("kdcam:vgg8", 64, 5, 0),  # with the pooling of large images
    ("kdcam:wrn_16_2", 32, 7, 6),  # whose published maps are sums that norms read
    ("kdcam:mobilenetv2", 32, 53, 0),
    ("kdcam:shufflenetv2", 32, 56, 0),
    ("resnet10t", 64, 14, 0),
    ("resnet18", 64, 20, 0),
    ("mobilenetv2_035", 32, 52, 0),
    ("efficientnet_b0", 64, 49, 0),
    ("tf_efficientnet_b0", 64, 49, 0),  # convolutions that pad by the image's size
    ("regnety_002", 64, 44, 0),
    ("densenet121", 64, 59, 62),  # pre-activation: BatchNorms before the convolutions
    ("dla46x_c", 64, 48, 0),
    ("torchvision:resnet18", 64, 20, 0),
    ("torchvision:mobilenet_v2", 64, 52, 0),
    ("torchvision:densenet121", 64, 59, 62),
]


def make(name: str, size: int = 32, **keys: object) -> Classifier:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"name": name, **keys})
    classifier = build_classifier(config, num_classes=7, in_channels=3, image_size=size)
    shift(classifier)
    return classifier.eval()


def shift(module: nn.Module) -> None:
    """Give every BatchNorm statistics and factors of its own; the fresh ones would fold to almost nothing."""
    generator = torch.Generator().manual_seed(1)
    for norm in norms(module):
        for values, scale in ((norm.running_mean, 0.1), (norm.running_var, 0.5)):
            if values is not None:
                values += scale * torch.rand(values.shape, generator=generator)
        if norm.affine:
            norm.weight.data += 0.2 * torch.rand(norm.weight.shape, generator=generator)
            norm.bias.data += 0.1 * torch.rand(norm.bias.shape, generator=generator)


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [one for one in module.modules() if isinstance(one, nn.BatchNorm2d)]


def answers(classifier: Classifier, images: Tensor) -> dict[str, Tensor]:
    """Return all outputs by name, through `forward` too."""
    with torch.no_grad():
        outputs = classifier.outputs(images, stages=True)
        found = {"forward": classifier(images), "logits": outputs.logits, "embedding": outputs.embedding}
    maps = () if outputs.feature_map is None else (*outputs.stages, outputs.feature_map)
    found |= {f"map {place}": one for place, one in enumerate(maps)}
    return found | {f"published {place}": one for place, one in enumerate(outputs.published_stages)}


def require_same(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    assert before.keys() == after.keys()
    for name, old in before.items():
        assert (after[name] - old).abs().max() <= FOLDING_TOLERANCE * old.abs().max(), name


@pytest.mark.parametrize(("name", "size", "folded", "left"), NETWORKS)
def test_outputs_stay(name: str, size: int, folded: int, left: int) -> None:
    classifier = make(name, size)
    images = torch.rand(3, 3, size, size)
    before = answers(classifier, images)
    state = torch.get_rng_state()
    frozen = freeze_and_fold(classifier)
    assert torch.equal(state, torch.get_rng_state())
    assert frozen.classifier is classifier
    assert (frozen.folded, len(norms(classifier)), frozen.reason) == (folded, left, None)
    assert 0 < frozen.difference <= FOLDING_TOLERANCE
    require_same(before, answers(classifier, images))
    assert not [one for one in classifier.parameters() if one.requires_grad]
    assert not [one for one in classifier.modules() if one.training]


@pytest.mark.parametrize(
    ("name", "size"), [("vit_tiny_patch16_224", 32), ("convnext_atto", 32), ("vgg11", 32)]
)
def test_nothing_to_fold(name: str, size: int) -> None:
    classifier = make(name, size)
    before = answers(classifier, images := torch.rand(2, 3, size, size))
    frozen = freeze_and_fold(classifier)
    assert frozen[1:] == (0, 0.0, "no BatchNorm follows a convolution that it alone reads")
    assert not [one for one in classifier.parameters() if one.requires_grad]
    after = answers(classifier, images)
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_the_neck_is_folded_too() -> None:
    classifier = make("kdcam:resnet8", feature_channels=24, channel_attention=True, head="cosine")
    before = answers(classifier, images := torch.rand(2, 3, 32, 32))
    assert freeze_and_fold(classifier).folded == 10
    assert not norms(classifier)
    require_same(before, answers(classifier, images))


@pytest.mark.parametrize("name", ["kdcam:resnet8", "mobilenetv2_035", "torchvision:mobilenet_v2"])
def test_strides_stay_channels_last(name: str) -> None:
    classifier = make(name)
    strides = {key: value.stride() for key, value in classifier.named_parameters() if value.ndim == 4}
    freeze_and_fold(classifier)
    assert {key: value.stride() for key, value in classifier.named_parameters() if value.ndim == 4} == strides
    weights = [one for one in classifier.parameters() if one.ndim == 4]
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in weights)


@pytest.mark.parametrize("name", ["kdcam:resnet8", "mobilenetv2_035", "torchvision:resnet18"])
def test_names_and_copies_stay(name: str) -> None:
    classifier = make(name)
    attributes = set(vars(classifier.network))
    top = [key for key, _ in classifier.network.named_children()]
    freeze_and_fold(classifier)
    assert set(vars(classifier.network)) == attributes
    assert [key for key, _ in classifier.network.named_children()] == top
    again = copy.deepcopy(classifier)
    assert torch.equal(again(images := torch.rand(2, 3, 32, 32)), classifier(images))
    assert freeze_and_fold(classifier).folded == 0  # a second time


def test_timm_interface_stays() -> None:
    network = freeze_and_fold(make("efficientnet_b0", 64)).classifier.network
    images = torch.rand(1, 3, 64, 64)
    features = network.forward_features(images)
    assert torch.equal(network.forward_head(features), network(images))
    torch.testing.assert_close(network.forward_intermediates(images)[0], features)
    assert network.get_classifier() is network.classifier
    assert isinstance(network.bn1, nn.SiLU)  # a BatchNormAct2d once


class Toy(nn.Module):
    """A network of timm's interface, with a body that each test writes."""

    def __init__(self, body: Callable[[Tensor, "Toy"], Tensor], norm: nn.Module | None) -> None:
        super().__init__()
        self.body = body
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4) if norm is None else norm
        self.second = nn.Conv2d(4, 4, 1, groups=2, bias=False)
        self.other = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward_features(self, x: Tensor, start: Tensor | None = None) -> Tensor:
        if start is not None:
            x = x + start
        return self.body(x, self)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = x.mean((2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: Tensor, start: Tensor | None = None) -> Tensor:
        return self.forward_head(self.forward_features(x, start))

    def get_classifier(self) -> nn.Module:
        return self.fc


def toy(body: Callable[[Tensor, Toy], Tensor], norm: nn.Module | None = None) -> Classifier:
    torch.manual_seed(0)
    network = Toy(body, norm)
    shift(network)
    return Classifier(
        network,
        read_linear_head,
        config=ModelConfig(name="kdcam:resnet8"),
        num_classes=5,
        image_size=8,
        preprocessing=Preprocessing((0.5,) * 3, (0.25,) * 3),
    ).eval()


def test_hand_worked_numbers() -> None:
    classifier = toy(lambda x, net: net.norm(net.conv(x)))
    conv, norm = classifier.network.conv, classifier.network.norm
    norm.eps = 0.25
    values = {conv.weight: 2, conv.bias: 1, norm.running_mean: 3, norm.weight: 5, norm.bias: 7}
    for tensor, value in (values | {norm.running_var: 3.75}).items():  # with eps: 2 * 2
        tensor.detach().fill_(value)
    assert freeze_and_fold(classifier).folded == 1
    assert torch.equal(conv.weight, torch.full((4, 3, 3, 3), 5.0))  # 2 * 5 / 2
    assert torch.equal(conv.bias, torch.full((4,), 2.0))  # (1 - 3) * 5 / 2 + 7
    assert type(classifier.network.norm) is nn.Identity


def test_a_drop_and_an_activation_remain() -> None:
    from timm.layers import BatchNormAct2d

    norm = BatchNormAct2d(4, drop_layer=lambda: nn.Dropout2d(0.5))
    classifier = toy(lambda x, net: net.norm(net.conv(x)), norm=norm)
    assert freeze_and_fold(classifier).folded == 1
    assert [type(one) for one in classifier.network.norm] == [nn.Dropout2d, nn.ReLU]
    assert not [one for one in classifier.modules() if one.training]


BOTH = [FoldablePair("conv", "norm"), FoldablePair("second", "other")]
LEFT_ALONE: dict[str, tuple[Callable[[Tensor, Toy], Tensor], list[FoldablePair]]] = {
    "nothing": (lambda x, net: net.other(net.second(net.norm(net.conv(x)).relu())), BOTH),
    "a convolution called twice": (lambda x, net: net.norm(net.second(net.second(net.conv(x)))), []),
    "a norm called twice": (lambda x, net: net.norm(net.second(net.norm(net.conv(x)))), []),
    "a second reader": (lambda x, net: net.other(net.second(maps := net.conv(x))) + net.norm(maps), BOTH[1:]),
    "a change in place": (lambda x, net: net.norm(net.conv(x).mul_(2)), []),
    "a reader of the weight": (lambda x, net: net.norm(net.conv(x)) + net.conv.weight.sum(), []),
    "a function between": (lambda x, net: net.norm(net.conv(x).relu()), []),
}


@pytest.mark.parametrize("what", LEFT_ALONE)
def test_left_alone(what: str) -> None:
    body, pairs = LEFT_ALONE[what]
    classifier = toy(body)
    assert foldable_pairs(classifier.network) == pairs
    before = answers(classifier, images := torch.rand(2, 3, 8, 8))
    assert freeze_and_fold(classifier).folded == len(pairs)
    require_same(before, answers(classifier, images))


def scaled_convolution(network: Toy) -> None:
    from timm.layers import ScaledStdConv2d

    network.conv = ScaledStdConv2d(3, 4, 3, padding=1).eval()


FIRST_PAIR_LEFT: dict[str, Callable[[Toy], object]] = {
    "train mode": lambda net: net.norm.train(),
    "no statistics": lambda net: net.set_submodule(
        "norm", nn.BatchNorm2d(4, track_running_stats=False).eval()
    ),
    "a second name": lambda net: net.register_module("alias", net.conv),
    "weights used in another way": scaled_convolution,
    "a hook": lambda net: net.conv.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2,)),
}


@pytest.mark.parametrize("alter", FIRST_PAIR_LEFT.values(), ids=FIRST_PAIR_LEFT)
def test_left_alone_for_what_it_is(alter: Callable[[Toy], object]) -> None:
    classifier = toy(LEFT_ALONE["nothing"][0])
    alter(classifier.network)
    norm = classifier.network.norm
    before = answers(copy.deepcopy(classifier), images := torch.rand(2, 3, 8, 8))
    training, kept = norm.training, copy.deepcopy(norm.state_dict())
    assert freeze_and_fold(classifier).folded == 1
    assert classifier.network.norm is norm
    assert norm.training == training
    assert all(torch.equal(value, kept[key]) for key, value in norm.state_dict().items())
    require_same(before, answers(classifier, images))


def require_untouched(classifier: Classifier, reason: str) -> None:
    modules = dict(classifier.named_modules())
    tensors = dict(classifier.state_dict(keep_vars=True))
    kept = copy.deepcopy(tensors)
    frozen = freeze_and_fold(classifier)
    assert frozen.folded == 0
    assert frozen.reason is not None
    assert reason in frozen.reason
    after = classifier.state_dict(keep_vars=True)
    assert list(after) == list(tensors)
    assert all(after[key] is value and torch.equal(value, kept[key]) for key, value in tensors.items())
    assert all(module is modules[name] for name, module in classifier.named_modules())


def test_a_failing_proof_undoes_all() -> None:
    # timm's forward_intermediates hands out the first convolution's map, before its BatchNorm.
    require_untouched(make("ghostnet_100", 64), "its outputs would change by")


class ReadsNorm(Toy):
    """Reads its BatchNorm on a way that is not traced."""

    def forward_features(self, x: Tensor, start: Tensor | None = None) -> Tensor:
        return super().forward_features(x, start) + 0 * self.norm.eps  # an Identity has none

    def forward(self, x: Tensor, start: Tensor | None = None) -> Tensor:
        return self.forward_head(super().forward_features(x, start))


def test_what_raises_when_folded_is_undone() -> None:
    classifier = toy(LEFT_ALONE["nothing"][0])
    classifier.network.__class__ = ReadsNorm
    require_untouched(classifier, "run folded (AttributeError: 'Identity' object has no attribute 'eps')")


def test_untraceable_networks_stay() -> None:
    def branching(x: Tensor, net: Toy) -> Tensor:
        return net.norm(net.conv(x)) if x.sum() > 0 else net.norm(net.conv(-x))

    require_untouched(toy(branching), "it cannot be traced")


def test_train_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train mode cannot be frozen; call its eval\(\) first"):
        freeze_and_fold(make("kdcam:resnet8").train())
