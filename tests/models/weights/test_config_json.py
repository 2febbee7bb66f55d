import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from long_tests import in_long
from safetensors.torch import load_file, save_file
from small_runs import SCENES, small_recipe

import kdcam
from kdcam.errors import CheckpointError
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights.config_json import config_content, describe_classifier, read_config
from kdcam.runs.checkpoint import save_model

PLAIN_TIMM = """
import sys, torch, timm
from safetensors.torch import load_file, save_file
folder, images, logits = sys.argv[1:]
model = timm.create_model("local-dir:" + folder, pretrained=True).eval().to(memory_format=torch.channels_last)
images = load_file(images)["images"]
mean, std = (torch.tensor(model.pretrained_cfg[key]).view(-1, 1, 1) for key in ("mean", "std"))
with torch.no_grad():
    images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
    save_file({"logits": model(images)}, logits)
assert not any(name.split(".")[0] == "kdcam" for name in sys.modules)
print(model.pretrained_cfg["label_names"], model.num_classes, model.pretrained_cfg["input_size"])
"""


def _classifier(name: str, *, channels: int = 3, size: int = 32, **options: Any) -> Classifier:
    torch.manual_seed(0)
    config = ModelConfig(name=name, **options)
    return build_classifier(
        config, num_classes=3, in_channels=channels, image_size=size, label_names=["a", "b", "c"]
    ).eval()


def _images(channels: int, size: int) -> torch.Tensor:
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(1))


def _logits(classifier: Classifier) -> torch.Tensor:
    with torch.no_grad():
        return classifier(_images(classifier.in_channels, classifier.image_size))


def _write(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("name", "channels", "size"),
    [in_long("resnet18", 3, 32), ("resnet10t", 1, 32), in_long("vit_tiny_patch16_224", 3, 32)],
)
def test_timm_without_kdcam_gives_the_same_logits(
    tmp_path: Path, name: str, channels: int, size: int
) -> None:
    classifier = _classifier(name, channels=channels, size=size, mean=(0.1,) * channels)
    folder = tmp_path / "run #1?"
    save_model(folder, classifier)
    said = _plain_timm_agrees(folder, classifier, tmp_path)
    assert said == f"['a', 'b', 'c'] 3 ({channels}, {size}, {size})"


def test_a_trained_run_loads_in_timm_without_kdcam(tmp_path: Path) -> None:
    recipe = small_recipe(
        epochs=1,
        data={**SCENES, "image_size": 32},
        model={"name": "resnet10t"},
        loss=[{"name": "cross_entropy"}],
    )
    run = kdcam.train(recipe, output=tmp_path / "run", device="cpu").path
    said = _plain_timm_agrees(run, kdcam.load(run), tmp_path)
    assert said == f"{[str(digit) for digit in range(10)]} 10 (1, 32, 32)"


def _plain_timm_agrees(folder: Path, classifier: Classifier, place: Path) -> str:
    """Compare logits with a process that imports timm alone; return what it says of the network."""
    save_file({"images": _images(classifier.in_channels, classifier.image_size)}, place / "images")
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_TIMM, str(folder), str(place / "images"), str(place / "logits")],
        capture_output=True,
        text=True,
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    theirs = load_file(place / "logits")["logits"]
    torch.testing.assert_close(theirs, _logits(classifier), rtol=1e-5, atol=1e-6)
    return done.stdout.strip()


def test_timm_folder_takes_another_head_and_channel_count(tmp_path: Path) -> None:
    import timm

    save_model(tmp_path, _classifier("resnet10t"))
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=5, in_chans=1).eval()
    assert model(torch.rand(1, 1, 32, 32)).shape == (1, 5)


@pytest.mark.parametrize("name", ["kdcam:resnet8_s2", "torchvision:shufflenet_v2_x0_5"])
def test_network_that_plain_timm_cannot_build_has_no_architecture(name: str) -> None:
    config = config_content(_classifier(name))
    assert config.keys() == {"num_classes", "label_names", "kdcam"}


def test_tag_of_pretrained_weights_is_no_part_of_the_architecture() -> None:
    config = config_content(_classifier("resnet18.a1_in1k"))
    assert config["architecture"] == "resnet18"
    assert "license" not in config["pretrained_cfg"]  # random weights


def test_description_builds_again_without_the_starting_weights(tmp_path: Path) -> None:
    save_model(tmp_path, _classifier("kdcam:resnet8_s2", mean=(0.485, 0.456, 0.406)))
    stored = describe_classifier(_classifier("kdcam:resnet8_s2", weights=str(tmp_path)))
    assert stored.model.weights is None
    assert stored.model.mean == stored.mean == (0.485, 0.456, 0.406)


def test_read_config_gives_what_was_described(tmp_path: Path) -> None:
    classifier = _classifier("kdcam:resnet8_s2", channels=1)
    save_model(tmp_path, classifier)
    stored = read_config(tmp_path)
    assert stored == describe_classifier(classifier)
    assert (stored.num_classes, stored.in_channels, stored.image_size) == (3, 1, 32)
    assert stored.label_names == ("a", "b", "c")
    assert stored.version is not None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, r"neither 'kdcam' nor 'architecture'"),
        ({"architecture": "resnet18", "num_classes": "ten"}, r"num_classes: .*integer"),
        ({"architecture": "resnet18", "num_classes": 0}, r"num_classes: .*greater"),
        (
            {"architecture": "resnet18", "num_classes": 10**12},
            r"num_classes: .*less than or equal to 1000000",
        ),
        ({"architecture": "resnet18", "pretrained_cfg": []}, r"'pretrained_cfg' is \[\], expected an object"),
        ({"architecture": "resnet18", "model_args": 1}, "'model_args' is 1, expected an object"),
        ({"architecture": "resnet18", "input_size": 3}, "'input_size' is 3, expected"),
        ({"architecture": "resnet18", "num_classes": 3, "label_names": ["a"]}, "1 label_names for 3 classes"),
        ({"kdcam": {"model": {"name": "kdcam:resnet20", "wings": 2}}}, r"model\.wings: .*another version"),
        ({"kdcam": None}, "another version"),
    ],
)
def test_config_that_describes_no_network_is_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{message}"):
        read_config(_write(tmp_path, config))


def test_missing_folder_and_missing_config_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere: there is no such folder or file"):
        read_config(tmp_path / "nowhere")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no config\.json beside the weights"):
        read_config(tmp_path / "model.safetensors")
