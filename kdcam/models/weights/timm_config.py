"""A config.json that timm or its users wrote, read as kdcam's description of a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kdcam.errors import CheckpointError
from kdcam.models.classifier import Classifier

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # timm's defaults where a file has none


def fields_from_timm(file: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `kdcam.models.weights.config_json.StoredModel`, not yet validated.

    Args:
        file: Where the config is from, for messages.
        config: The content of the file; timm's older ones have the keys of ``pretrained_cfg`` at the root.

    Raises:
        CheckpointError: The file names no architecture, or is built in another way.
    """
    if "architecture" not in config:
        raise CheckpointError(f"{file}: neither 'kdcam' nor 'architecture' in it says what the network is")
    cfg = _table(file, config, "pretrained_cfg") if "pretrained_cfg" in config else config
    args = {key: value for key, value in _table(file, config, "model_args").items() if value is not None}
    channels, side = _input_size(file, cfg, args)
    mean, std = cfg.get("mean", _MEAN), cfg.get("std", _STD)
    drops = {key: args[key] for key in ("drop_rate", "drop_path_rate") if key in args}
    return {
        "model": {"name": config["architecture"], "mean": mean, "std": std, **drops},
        "num_classes": config.get("num_classes", cfg.get("num_classes", 1000)),
        "in_channels": channels,
        "image_size": side,
        "mean": mean,
        "std": std,
        "label_names": config.get("label_names", cfg.get("label_names")) or (),
        "timm_args": args,
    }


def check_arguments(classifier: Classifier, args: Mapping[str, Any], *, place: Path) -> None:
    """Prove on a random image that timm's network with all the stored arguments gives the same logits.

    kdcam passes on only some of the arguments, and timm writes also those that have their default value.
    torch's generator is left as it was.

    Args:
        classifier: On the CPU, with the stored weights.
        args: What stands as ``model_args`` in ``place``.
        place: The config.json, for the message.

    Raises:
        CheckpointError: The logits differ, or timm cannot build that network, or the weights do not fit it.
    """
    import timm

    images = torch.rand(
        1,
        classifier.in_channels,
        classifier.image_size,
        classifier.image_size,
        generator=torch.Generator().manual_seed(0),
    )
    always = {"num_classes": classifier.num_classes, "in_chans": classifier.in_channels}
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network = timm.create_model(classifier.config.name, **{**always, **args}).eval()
            network.load_state_dict(classifier.network.state_dict())
            expected = network(classifier.normalise(images))
            found = classifier.eval()(images)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
    else:
        if torch.allclose(found, expected, rtol=1e-3, atol=1e-4):
            return
        reason = "the logits differ from timm's"
    raise CheckpointError(
        f"{place}: model_args = {dict(args)} makes another network than kdcam builds ({reason}); "
        "only in_chans, num_classes, img_size and drop rates may differ from the architecture's own"
    )


def _table(file: Path, config: dict[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key, {})
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: '{key}' is {value!r}, expected an object {{...}}")
    return value


def _input_size(file: Path, cfg: dict[str, Any], args: dict[str, Any]) -> tuple[Any, Any]:
    """Return channels and pixels a side; model_args overrule the input size beside the statistics."""
    size = cfg.get("input_size", (3, 224, 224))
    if not isinstance(size, list | tuple) or len(size) != 3:
        raise CheckpointError(f"{file}: 'input_size' is {size}, expected [channels, height, width]")
    side = args.get("img_size", size[-1])
    return args.get("in_chans", size[0]), side[-1] if isinstance(side, list) and side else side


__all__ = ["check_arguments", "fields_from_timm"]
