from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from kdcam.cam.maps import class_cams
from kdcam.errors import CheckpointError, ModelError
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier, Outputs
from kdcam.models.heads import CosineHead, GaussianHead, Head, UnitWeightHead, add_head
from kdcam.models.inspection import check_cam
from kdcam.models.model_config import ModelConfig
from kdcam.models.weight_folding import fold_head
from kdcam.models.weights.config_json import config_content
from kdcam.runs.checkpoint import load_classifier, save_model

HEADS = ("cosine", "unit-weight", "gaussian")


def build(name: str = "kdcam:resnet8", **keys: object) -> Classifier:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"name": name, **keys})
    classifier = build_classifier(config, num_classes=5, in_channels=3, image_size=32)
    with torch.no_grad():  # statistics of their own, as after training
        classifier.train()(images(8))
    return classifier.eval()


def images(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def parts(outputs: Outputs) -> tuple[torch.Tensor, torch.Tensor]:
    assert outputs.feature_map is not None
    assert outputs.weight is not None
    return outputs.feature_map, outputs.weight


def test_cosine_by_hand() -> None:
    head = CosineHead(torch.tensor([[2.0, 0.0], [3.0, 4.0]]), scale=10.0)
    # (0, 5) stands at 90 degrees to the first class; its cosine with (3, 4) is 4 / 5.
    torch.testing.assert_close(head(torch.tensor([[0.0, 5.0]])), torch.tensor([[0.0, 8.0]]))


def test_unit_weights_by_hand() -> None:
    head = UnitWeightHead(torch.tensor([[2.0, 0.0], [3.0, 4.0]]))
    torch.testing.assert_close(head(torch.tensor([[0.0, 5.0]])), torch.tensor([[0.0, 4.0]]))


def test_gaussian_logits_are_squared_distances_up_to_what_all_classes_share() -> None:
    means, embedding = torch.randn(4, 3).double(), torch.randn(6, 3).double()
    head = GaussianHead(means)
    distances = (embedding[:, None] - means).square().sum(2)
    torch.testing.assert_close(head(embedding).softmax(1), (-distances / 2).softmax(1))


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", ["kdcam:resnet8", "resnet10t", "vgg11_bn", "vit_tiny_patch16_224"])
def test_logits_are_the_weights_times_the_embedding_and_forward_agrees(name: str, kind: str) -> None:
    classifier = build(name, head=kind)
    outputs = classifier.outputs(images())
    assert outputs.weight is not None
    logits = F.linear(outputs.embedding, outputs.weight, outputs.bias)
    torch.testing.assert_close(outputs.logits, logits)
    torch.testing.assert_close(outputs.logits, classifier(images()))


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("neck", [{}, {"feature_channels": 10, "channel_attention": True}])
def test_the_mean_of_the_cam_is_the_logit(kind: str, neck: dict[str, object]) -> None:
    classifier = build(head=kind, **neck)
    check_cam(classifier)
    outputs = classifier.outputs(images())
    cams = class_cams(*parts(outputs), outputs.bias)
    torch.testing.assert_close(cams.mean((2, 3)), classifier(images()), rtol=1e-4, atol=1e-4)


def test_the_cosine_head_sees_directions_and_shows_its_scale_in_the_weights() -> None:
    classifier = build(head="cosine", scale=7.0)
    outputs = classifier.outputs(images())
    _, weight = parts(outputs)
    torch.testing.assert_close(outputs.embedding.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(weight.norm(dim=1), torch.full((5,), 7.0))
    assert outputs.logits.abs().max() <= 7


@pytest.mark.parametrize("kind", HEADS)
def test_the_head_starts_from_the_linear_layer_it_replaces(kind: str) -> None:
    plain, headed = build(), build(head=kind)
    before, after = plain.network.get_classifier(), headed.network.get_classifier()
    assert isinstance(after, Head)
    assert torch.equal(after.weight, before.weight)


@pytest.mark.parametrize("kind", HEADS)
def test_half_precision_stays_out_of_the_head(kind: str) -> None:
    classifier = build(head=kind, scale=64.0) if kind == "cosine" else build(head=kind)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = classifier.outputs(images())
        logits = classifier(images())
    assert outputs.logits.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(outputs.logits, F.linear(outputs.embedding, outputs.weight, outputs.bias))


@pytest.mark.parametrize("kind", HEADS)
def test_an_embedding_of_zeros_has_finite_logits_and_gradients(kind: str) -> None:
    heads = {
        "cosine": CosineHead(torch.ones(3, 4), scale=30.0),
        "unit-weight": UnitWeightHead(torch.ones(3, 4)),
        "gaussian": GaussianHead(torch.ones(3, 4)),
    }
    embedding = torch.zeros(2, 4, requires_grad=True)
    logits = heads[kind](embedding)
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert embedding.grad is not None
    assert torch.isfinite(embedding.grad).all()


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", ["kdcam:resnet8", "resnet10t"])
def test_saving_and_loading(tmp_path: Path, name: str, kind: str) -> None:
    classifier = build(name, head=kind, **({"scale": 12.0} if kind == "cosine" else {}))
    save_model(tmp_path, classifier)
    assert "architecture" not in config_content(classifier)  # plain timm has no such head
    again = load_classifier(tmp_path)
    assert again.config.head == kind
    torch.testing.assert_close(again(images()), classifier(images()))


def test_starting_weights_with_and_without_a_bias(tmp_path: Path) -> None:
    plain, headed = build(), build(head="cosine")
    save_model(tmp_path / "plain", plain)
    save_model(tmp_path / "headed", headed)
    for place in ("plain", "headed"):
        started = build(head="cosine", weights=str(tmp_path / place))
        torch.testing.assert_close(started.network.state_dict()["fc.weight"], plain.network.fc.weight)
    assert "bias, which model.head leaves out" in " ".join(
        build(head="cosine", weights=str(tmp_path / "plain")).notes
    )
    with pytest.raises(
        CheckpointError, match=r"another model.head, whose classifier has no bias; set model.head"
    ):
        build(weights=str(tmp_path / "headed"))


def test_gradient_reaches_the_network_and_the_weights() -> None:
    for kind in HEADS:
        classifier = build(head=kind).train()
        F.cross_entropy(classifier(images()), torch.arange(4)).backward()
        grads = {name: parameter.grad for name, parameter in classifier.named_parameters()}
        assert all(grad is not None and grad.abs().sum() > 0 for grad in grads.values())


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"head": "cosine", "name": "torchvision:resnet18"}, "head = 'cosine' goes with kdcam: and timm.*'resnet18'"),
        ({"scale": 10.0}, "scale = 10, but head = 'linear' has none"),
        ({"scale": 10.0, "head": "gaussian"}, "scale = 10, but head = 'gaussian' has none"),
        ({"head": "cosin"}, "cosine"),
    ],
)  # fmt: skip
def test_keys_that_do_not_fit_are_refused(keys: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        ModelConfig.model_validate(keys)


def test_networks_without_a_linear_layer_are_refused() -> None:
    with pytest.raises(
        ModelError, match=r"model.head: found 'cosine'.*'dla46x_c' are no single linear layer"
    ):
        build("dla46x_c", head="cosine")


@pytest.mark.parametrize("kind", ["unit-weight", "gaussian"])
def test_folding_keeps_the_logits(kind: str) -> None:
    classifier = build(head=kind)
    folded = fold_head(classifier)
    assert folded.change is None
    assert isinstance(folded.classifier.network.get_classifier(), nn.Linear)
    torch.testing.assert_close(folded.classifier(images()), classifier(images()))


def test_folding_a_cosine_keeps_the_order_of_classes_and_says_what_changes() -> None:
    classifier = build(head="cosine", scale=20.0)
    folded, change = fold_head(classifier)
    assert change is not None
    assert "not 20 times it: top-1 is the same, confidences and" in change
    before, after = classifier(images(16)), folded(images(16))
    assert torch.equal(before.argsort(1), after.argsort(1))
    lengths = classifier.network.forward_head(
        classifier.network.forward_features(classifier.normalise(images(16))), pre_logits=True
    ).norm(dim=1)
    torch.testing.assert_close(after, before / 20 * lengths[:, None])


def test_folding_leaves_a_linear_layer_and_the_random_state_alone() -> None:
    plain = build()
    assert fold_head(plain).classifier is plain
    cosine = build(head="cosine")
    state = torch.get_rng_state()
    fold_head(cosine)
    assert torch.equal(torch.get_rng_state(), state)


def test_short_rows_keep_their_direction() -> None:
    network = build().network
    with torch.no_grad():
        network.fc.weight[2] *= 1e-3
    before = network.fc.weight.detach().clone()
    add_head(network, "unit-weight", scale=1.0, name="", linear_head=True)
    torch.testing.assert_close(network.fc.weight[2], F.normalize(before[2], dim=0))
    assert torch.equal(network.fc.weight[3], before[3])


@pytest.mark.parametrize("kind", ["cosine", "unit-weight"])
def test_classifiers_that_start_at_zero_get_directions(kind: str) -> None:
    classifier = build("mixer_s32_224", head=kind).train()  # timm starts its classifier at 0
    F.cross_entropy(classifier(images()), torch.arange(4)).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in classifier.parameters())
    weight = classifier.network.get_classifier().weight
    assert (weight.grad.norm(dim=1) > 0).all()
