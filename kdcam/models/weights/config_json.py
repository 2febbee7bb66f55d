"""config.json: what builds a saved network again, in the layout that timm's ``local-dir:`` reads.

For an unmodified timm network the file has ``architecture``, ``model_args`` and ``pretrained_cfg``, so that
``timm.create_model("local-dir:FOLDER", pretrained=True)`` gives the same logits without kdcam. kdcam's own
facts stand under the root key ``kdcam``, since timm ignores root keys that it does not know and refuses
unknown ones in ``pretrained_cfg``.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError

from kdcam.errors import CheckpointError
from kdcam.files.json_files import read_json
from kdcam.files.paths import exists, is_file, is_folder
from kdcam.files.weight_location import CONFIG_FILE
from kdcam.models.classifier import Classifier, Task
from kdcam.models.model_config import MOST_SIZE, ModelConfig
from kdcam.settings.messages import reason_text
from kdcam.settings.validation import Settings

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # timm's defaults where a file has none
# what timm needs for another head or channel count
_COPIED = ("classifier", "first_conv", "fixed_input_size")


class StoredModel(Settings):
    """What a config.json says about the network beside it."""

    model: ModelConfig  # with random weights and explicit statistics: all that building it again takes
    num_classes: int = Field(ge=1, le=MOST_SIZE)
    in_channels: int = Field(ge=1, le=MOST_SIZE)
    image_size: int = Field(ge=1, le=MOST_SIZE)  # pixels a side
    mean: tuple[float, ...]
    std: tuple[float, ...]
    label_names: tuple[str, ...] = ()
    task: Task = "single-label"
    version: str | None = None  # of the kdcam that wrote the file; None: another program did
    timm_args: dict[str, Any] = Field(default_factory=dict)  # another program's model_args, proved on loading


def describe_classifier(classifier: Classifier) -> StoredModel:
    """Return what building the classifier again takes, without where its starting weights came from."""
    mean, std = classifier.preprocessing
    start = {"pretrained": False, "weights": None, "mean": mean, "std": std}
    return StoredModel(
        model=classifier.config.model_copy(update=start),
        num_classes=classifier.num_classes,
        in_channels=classifier.in_channels,
        image_size=classifier.image_size,
        mean=mean,
        std=std,
        label_names=tuple(classifier.label_names),
        task=classifier.task,
        version=_kdcam_version(),
    )


def _kdcam_version() -> str:
    try:
        return version("kdcam")
    except PackageNotFoundError:  # run from a checkout
        return "not installed"


def config_content(classifier: Classifier) -> dict[str, Any]:
    """Return the content of config.json; ``architecture`` only for a network that plain timm can build."""
    stored = describe_classifier(classifier)
    own = stored.model_dump(mode="json", exclude={"timm_args"})
    config: dict[str, Any] = {"num_classes": stored.num_classes, "kdcam": own}
    if stored.label_names:
        config["label_names"] = list(stored.label_names)
    architecture = timm_architecture(stored.model)
    if architecture is None:
        return config
    return {
        "architecture": architecture,
        "num_features": getattr(classifier.network, "num_features", None),
        "model_args": _model_args(classifier, stored),
        "pretrained_cfg": _pretrained_cfg(classifier, stored),
        **config,
    }


def timm_architecture(model: ModelConfig) -> str | None:
    """Return the name under which timm, without kdcam, builds the network; None where it cannot."""
    if ":" in model.name or model.has_neck or model.head != "linear":
        return None
    return model.name.partition(".")[0]  # without the tag of the pretrained weights


def _model_args(classifier: Classifier, stored: StoredModel) -> dict[str, Any]:
    args: dict[str, Any] = {"in_chans": stored.in_channels}
    if _upstream(classifier).get("fixed_input_size", False):  # as build_classifier passes it on
        args["img_size"] = stored.image_size
    return args


def _pretrained_cfg(classifier: Classifier, stored: StoredModel) -> dict[str, Any]:
    upstream = _upstream(classifier)
    size = [stored.in_channels, stored.image_size, stored.image_size]
    copied = {key: upstream[key] for key in _COPIED if upstream.get(key) is not None}
    if classifier.config.pretrained and upstream.get("license"):
        copied["license"] = upstream["license"]  # weights derived from licensed ones stay under that licence
    return {
        "input_size": size,
        "mean": list(stored.mean),
        "std": list(stored.std),
        "num_classes": stored.num_classes,
        # kdcam cuts the middle square and resizes it with Pillow's bicubic filter
        "interpolation": "bicubic",
        "crop_pct": 1.0,
        "crop_mode": "center",
        **copied,
    }


def _upstream(classifier: Classifier) -> dict[str, Any]:
    return dict(getattr(classifier.network, "pretrained_cfg", None) or {})


def read_config(path: Path) -> StoredModel:
    """Return what stands in the config.json of a run folder or a timm folder; reads no weights.

    Args:
        path: The folder, or a .safetensors file in it.

    Raises:
        CheckpointError: There is no such file, or it does not describe a network that kdcam can build.
    """
    file = (path if is_folder(path) else path.parent) / CONFIG_FILE
    if not exists(path):
        raise CheckpointError(
            f"{path}: there is no such folder or file; expected a run folder or .safetensors"
        )
    if not is_file(file):
        raise CheckpointError(
            f"{path}: no {CONFIG_FILE} beside the weights, so the network is not known; give a run folder "
            "that has finished an epoch, or a timm folder (config.json and model.safetensors)"
        )
    config = read_json(file)
    try:
        fields = config["kdcam"] if "kdcam" in config else fields_from_timm(file, config)
        stored = StoredModel.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{file}: {key}: {first['msg']}; was it written by another version?") from error
    if stored.label_names and len(stored.label_names) != stored.num_classes:
        raise CheckpointError(
            f"{file}: {len(stored.label_names)} label_names for {stored.num_classes} classes; "
            "expected one for each class, or none"
        )
    return stored


def fields_from_timm(file: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of `StoredModel` that a config.json of timm or its users gives, not yet validated.

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


def check_arguments(classifier: Classifier, args: Mapping[str, Any], *, file: Path) -> None:
    """Prove on a random image that timm's network with all the stored arguments gives the same logits.

    kdcam passes on only some of the arguments, and timm writes also those that have their default value.
    torch's generator is left as it was.

    Args:
        classifier: On the CPU, with the stored weights.
        args: What stands as ``model_args`` in ``file``.
        file: The config.json, for the message.

    Raises:
        CheckpointError: The logits differ, or timm cannot build that network, or the weights do not fit it.
    """
    import timm  # here: it takes seconds

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
        reason = reason_text(error)
    else:
        if torch.allclose(found, expected, rtol=1e-3, atol=1e-4):
            return
        reason = "the logits differ from timm's"
    raise CheckpointError(
        f"{file}: model_args = {dict(args)} makes another network than kdcam builds ({reason}); "
        "only in_chans, num_classes, img_size and drop rates may differ from the architecture's own"
    )


__all__ = [
    "StoredModel",
    "check_arguments",
    "config_content",
    "describe_classifier",
    "fields_from_timm",
    "read_config",
    "timm_architecture",
]
