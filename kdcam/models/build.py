"""A network by name, built into a Classifier: timm's, torchvision's, or kdcam's own for small images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from kdcam.errors import CheckpointError, ModelError
from kdcam.models.catalogue import split_name
from kdcam.models.classifier import Classifier, Preprocessing, Reader, Task
from kdcam.models.heads import add_head
from kdcam.models.model_config import ModelConfig
from kdcam.models.necks import add_neck
from kdcam.models.networks import build_cifar
from kdcam.models.output_readers import read_linear_head, reader_for
from kdcam.models.torchvision_networks import TorchvisionReader, build_torchvision, torchvision_statistics
from kdcam.models.weights.download import fetched_from_hub
from kdcam.models.weights.starting_weights import (
    holds_neck,
    learned_other_classes,
    load_starting_weights,
    starting_weights,
    stored_statistics,
)
from kdcam.settings.messages import reason_text

if TYPE_CHECKING:  # importing kdcam.models would load much of kdcam.data
    from kdcam.data.dataset_parts import DataSummary

PLAIN_STATISTICS = Preprocessing((0.5,), (0.25,))  # kdcam's choice for networks without weights of their own


class _Built(NamedTuple):
    network: nn.Module
    reader: Reader
    published: Preprocessing  # of the source's weights


def build_classifier(
    config: ModelConfig,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    label_names: Sequence[str] = (),
    task: Task = "single-label",
) -> Classifier:
    """Return a Classifier on the CPU, in train mode and channels_last.

    Its random weights come from torch's default generator; nothing is downloaded but with ``pretrained``.
    `Classifier.notes` says what the user should know, such as a classifier that starts afresh.

    Args:
        config: the network, its starting weights and statistics.
        num_classes: of the classifier, at least 1.
        in_channels: of the images: 3, 1, or what the network takes.
        image_size: in pixels, for networks that are built for one size and for probes.
        label_names: of the classes, in the order of the logits; empty: unknown.
        task: whether an image has one label or several.

    Raises ``ModelError`` where the name is unknown or the network does not take what is asked of it,
    ``CheckpointError`` where starting weights are not there or do not fit.
    """
    if label_names and len(label_names) != num_classes:
        raise ValueError(f"{len(label_names)} label names for {num_classes} classes")
    source, name = split_name(config.name)
    built = _BUILDERS[source](config, name, num_classes, in_channels, image_size)
    network, notes = _completed(config, built, (in_channels, image_size, image_size), label_names, task)
    return Classifier(
        _channels_last(network),
        built.reader,
        config=config,
        num_classes=num_classes,
        image_size=image_size,
        preprocessing=_preprocessing(config, built.published, in_channels),
        label_names=label_names,
        notes=notes,
        task=task,
    )


def build_for_data(
    config: ModelConfig, summary: "DataSummary", task: Task, *, label_names: Sequence[str]
) -> Classifier:
    """Return what `build_classifier` builds for data and task; random weights come from torch's default generator.

    ``label_names`` are what the network knows its classes by; none where it has learned them elsewhere.
    """
    return build_classifier(
        config,
        num_classes=len(summary.label_names),
        in_channels=summary.channels,
        image_size=summary.image_size,
        label_names=label_names,
        task=task,
    )


def _completed(
    config: ModelConfig,
    built: _Built,
    image_shape: tuple[int, int, int],
    label_names: Sequence[str],
    task: Task,
) -> tuple[nn.Module, list[str]]:
    """Return a network with neck, head and starting weights, and what the user should know about these."""
    network, notes = built.network, list[str]()
    location = config.weights
    weights = None if location is None else starting_weights(location)
    necked = weights is not None and holds_neck(weights.tensors)

    def load() -> list[str]:
        assert location is not None
        assert weights is not None
        others = learned_other_classes(location, label_names, task)
        return load_starting_weights(
            network, weights, location, without_bias=config.head != "linear", other_classes=others
        )

    if location is not None and not necked:
        notes += load()
    if config.has_neck:
        network = add_neck(
            network,
            name=config.name,
            linear_head=built.reader is read_linear_head,
            image_shape=image_shape,
            feature_channels=config.feature_channels,
            reduction=config.attention_reduction if config.channel_attention else None,
        )
        if config.pretrained or (location is not None and not necked):
            fresh = "the neck is" if config.feature_channels is None else "the neck and the classifier are"
            notes.append(f"the starting weights are of a network without a neck, so {fresh} new")
    if location is not None and necked:
        _check_neck(config)
        notes += load()
    linear_head = built.reader is read_linear_head
    add_head(network, config.head, scale=config.scale, name=config.name, linear_head=linear_head)
    return network, notes


def _check_neck(config: ModelConfig) -> None:
    if not config.has_neck:
        raise CheckpointError(
            f"model.weights: {config.weights} is of a network with a neck; set model.channel_attention and "
            "model.feature_channels as they are in its config.json, or take the weights of a network without"
        )


def _from_kdcam(
    config: ModelConfig, name: str, num_classes: int, in_channels: int, image_size: int
) -> _Built:
    del image_size  # any
    if config.drop_path_rate:
        raise ModelError(f"model.drop_path_rate: {config.name} has no stochastic depth; leave the key out")
    network = build_cifar(
        name, num_classes=num_classes, in_chans=in_channels, drop_rate=config.drop_rate or 0.0
    )
    return _Built(network, read_linear_head, PLAIN_STATISTICS)


def _from_torchvision(
    config: ModelConfig, name: str, num_classes: int, in_channels: int, image_size: int
) -> _Built:
    rates = {"dropout": config.drop_rate, "stochastic_depth_prob": config.drop_path_rate}
    network = build_torchvision(
        name,
        pretrained=config.pretrained,
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        rates={key: value for key, value in rates.items() if value is not None},
    )
    return _Built(network, TorchvisionReader(name, network), torchvision_statistics(name))


def _from_timm(config: ModelConfig, name: str, num_classes: int, in_channels: int, image_size: int) -> _Built:
    import timm  # here: it takes seconds

    options: dict[str, Any] = {"drop_rate": config.drop_rate, "drop_path_rate": config.drop_path_rate}
    try:
        known = timm.get_pretrained_cfg(name)
        if known is not None and known.fixed_input_size:
            options["img_size"] = image_size
        if config.pretrained and known is not None:
            file = fetched_from_hub(name, known.to_dict())
            if file is not None:
                options["pretrained_cfg_overlay"] = {"file": str(file)}
        network: nn.Module = timm.create_model(
            name, pretrained=config.pretrained, num_classes=num_classes, in_chans=in_channels, **options
        )
    except (AssertionError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = reason_text(error)
        if config.pretrained and isinstance(error, OSError):
            raise ModelError(
                f"model.pretrained: the weights of {name} cannot be fetched ({reason}); try again, or name a local "
                "file in model.weights, with pretrained = false"
            ) from error
        asked = {key: value for key, value in options.items() if value is not None}
        raise ModelError(
            f"model.name: timm cannot build {name!r} with pretrained={config.pretrained}, "
            f"in_chans={in_channels}, {asked}: {reason}; change these keys, or take another network"
        ) from error
    if not hasattr(network, "get_classifier"):
        raise ModelError(
            f"model.name: timm's {name!r} is an encoder without a classifier; take another network"
        )
    published: Any = network.pretrained_cfg
    return _Built(
        network, reader_for(network), Preprocessing(tuple(published["mean"]), tuple(published["std"]))
    )


_BUILDERS = {"kdcam": _from_kdcam, "timm": _from_timm, "torchvision": _from_torchvision}


def _preprocessing(config: ModelConfig, published: Preprocessing, in_channels: int) -> Preprocessing:
    """Return the statistics in effect: the recipe's, else those of the weights, else kdcam's."""
    own = PLAIN_STATISTICS
    if config.pretrained:
        own = published
    elif config.weights is not None:
        own = stored_statistics(config.weights, config.name) or published
    asked = {"mean": config.mean, "std": config.std}
    for key, values in asked.items():
        if values is not None and len(values) not in (1, in_channels):
            raise ModelError(
                f"model.{key}: found {len(values)} numbers for images of {in_channels} channel(s); give one, "
                "or one a channel"
            )
    return Preprocessing(
        _spread(config.mean or own.mean, in_channels), _spread(config.std or own.std, in_channels)
    )


def _spread(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return one number a channel: as they are, or their mean for all (a grey image of RGB statistics)."""
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def _channels_last(network: nn.Module) -> nn.Module:
    """Return the network, its 4-dimensional parameters in channels_last; Module.to fails on those of 5."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return network


__all__ = [
    "PLAIN_STATISTICS",
    "build_classifier",
    "build_for_data",
]
