import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models._hub import save_for_hf

from kdcam.errors import CheckpointError
from kdcam.models.weights.config_json import read_config
from kdcam.runs.checkpoint import load_classifier


def _timm_folder(folder: Path, name: str, **args: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3, in_chans=1, **args).eval()
    statistics = {"mean": [0.2], "std": [0.3]}
    save_for_hf(
        network,
        folder,
        model_config={"label_names": ["a", "b", "c"], "pretrained_cfg": statistics},
        model_args={"in_chans": 1, **args},
        safe_serialization=True,
    )
    return network


def _write(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("name", "args"), [("resnet10t", {}), ("vit_tiny_patch16_224", {"img_size": 32}), ("regnetx_002", {})]
)
def test_folder_that_timm_wrote_gives_the_same_logits(
    tmp_path: Path, name: str, args: dict[str, Any]
) -> None:
    network = _timm_folder(tmp_path, name, **args)
    before = torch.get_rng_state()
    classifier = load_classifier(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert classifier.label_names == ("a", "b", "c")
    images = torch.rand(2, 1, classifier.image_size, classifier.image_size)
    with torch.no_grad():
        torch.testing.assert_close(classifier(images), network((images - 0.2) / 0.3))


@pytest.mark.parametrize("args", [{"global_pool": "max"}, {"output_stride": 8}, {"wings": 2}])
def test_arguments_that_change_the_network_are_refused(tmp_path: Path, args: dict[str, Any]) -> None:
    _timm_folder(tmp_path, "resnet10t")
    config = json.loads((tmp_path / "config.json").read_text())
    _write(tmp_path, {**config, "model_args": {**config["model_args"], **args}})
    with pytest.raises(
        CheckpointError, match=r"config\.json: model_args = .* makes another network"
    ) as caught:
        load_classifier(tmp_path)
    assert "\n" not in str(caught.value)


def test_flat_file_of_older_timm_is_read(tmp_path: Path) -> None:
    flat = {"architecture": "resnet18", "num_classes": 10, "input_size": [3, 64, 64], "mean": [0.1, 0.2, 0.3]}
    stored = read_config(_write(tmp_path, flat))
    assert (stored.model.name, stored.num_classes, stored.image_size) == ("resnet18", 10, 64)
    assert stored.mean == (0.1, 0.2, 0.3)
    assert stored.std == (0.229, 0.224, 0.225)  # timm's default
    assert stored.version is None


def test_input_size_comes_from_the_arguments_where_they_say(tmp_path: Path) -> None:
    args = {"img_size": [96, 96], "in_chans": 1, "drop_rate": 0.1}
    config = {
        "architecture": "vit_tiny_patch16_224",
        "model_args": args,
        "pretrained_cfg": {"input_size": [3, 224, 224]},
    }
    stored = read_config(_write(tmp_path, config))
    assert (stored.in_channels, stored.image_size, stored.num_classes) == (1, 96, 1000)
    assert stored.model.drop_rate == 0.1
