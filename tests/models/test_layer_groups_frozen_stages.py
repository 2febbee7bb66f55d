from typing import Any

import pytest
import torch
from torch import nn

from kdcam.errors import ModelError
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.layer_groups import frozen_stages
from kdcam.models.model_config import InitConfig, ModelConfig


def build(name: str = "kdcam:resnet8", **keys: Any) -> Classifier:
    config = ModelConfig(name=name, **keys)
    return build_classifier(config, num_classes=5, in_channels=3, image_size=64)


def frozen_names(student: Classifier) -> set[str]:
    named = student.network.named_parameters()
    return {name.partition(".")[0] for name, parameter in named if not parameter.requires_grad}


def norms_in_eval(student: Classifier) -> set[str]:
    modules = student.network.named_modules()
    norms = (nn.BatchNorm2d, nn.Dropout)
    return {name for name, module in modules if isinstance(module, norms) and not module.training}


def test_the_stem_and_the_first_stages_are_held_until_their_time() -> None:
    student = build().train()
    stages = frozen_stages(student, InitConfig(checkpoint="a", frozen=2, unfreeze=0.5))
    assert stages is not None
    assert frozen_names(student) == set()  # nothing happens before the first step
    stages.hold(0.0)
    assert frozen_names(student) == {"conv1", "bn1", "layer1", "layer2"}
    assert {name.partition(".")[0] for name in norms_in_eval(student)} == {"bn1", "layer1", "layer2"}
    student.train()  # as each epoch begins
    stages.hold(0.49)
    assert "bn1" in norms_in_eval(student)
    stages.hold(0.5)
    assert frozen_names(student) == set()
    assert norms_in_eval(student) == set()


def test_without_a_time_they_never_learn() -> None:
    student = build().train()
    stages = frozen_stages(student, InitConfig(checkpoint="a", frozen=1))
    assert stages is not None
    stages.hold(1 - 1e-12)
    assert frozen_names(student) == {"conv1", "bn1", "layer1"}


@pytest.mark.parametrize("name", ["kdcam:resnet8", "resnet10t", "torchvision:shufflenet_v2_x0_5"])
def test_all_leaves_the_classifier_alone_to_learn(name: str) -> None:
    student = build(name).train()
    stages = frozen_stages(student, InitConfig(checkpoint="a", frozen="all"))
    assert stages is not None
    stages.hold(0.0)
    learning = [name for name, one in student.network.named_parameters() if one.requires_grad]
    assert learning == ["fc.weight", "fc.bias"]
    before = {name: value.clone() for name, value in student.network.state_dict().items()}
    student(torch.rand(4, 3, 64, 64))
    assert all(torch.equal(before[name], value) for name, value in student.network.state_dict().items())


def test_all_freezes_a_neck_and_spares_any_head() -> None:
    student = build(channel_attention=True, head="cosine").train()
    stages = frozen_stages(student, InitConfig(checkpoint="a", frozen="all"))
    assert stages is not None
    stages.hold(0.0)
    assert [name for name, one in student.network.named_parameters() if one.requires_grad] == [
        "body.fc.weight"
    ]


def test_nothing_to_freeze() -> None:
    assert frozen_stages(build(), InitConfig(checkpoint="a")) is None


def test_more_stages_than_there_are() -> None:
    with pytest.raises(
        ModelError, match=r"init\.frozen: found 4, but 'kdcam:resnet8' has 3 stages; give at most 3"
    ):
        frozen_stages(build(), InitConfig(checkpoint="a", frozen=4))


def test_a_network_without_one_layer_for_the_logits() -> None:
    student = build("torchvision:squeezenet1_1")
    with pytest.raises(ModelError, match=r'init\.frozen: found "all", but .* has no single layer'):
        frozen_stages(student, InitConfig(checkpoint="a", frozen="all"))


@pytest.mark.parametrize("frozen", [1, "all"])
def test_dropouts_between_what_is_frozen_rest_and_those_behind_it_work(frozen: int | str) -> None:
    config = ModelConfig(name="test_vit", drop_rate=0.5)
    student = build_classifier(config, num_classes=5, in_channels=3, image_size=160).train()
    stages = frozen_stages(student, InitConfig(checkpoint="a", frozen=frozen))
    assert stages is not None
    stages.hold(0.0)
    network = student.network
    assert not any(
        module.training for module in (network.pos_drop, network.norm_pre, network.blocks[0].drop_path1)
    )
    assert network.head_drop.training
    assert network.blocks[-1].drop_path1.training == (frozen == 1)
