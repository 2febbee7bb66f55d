"""What kdcam's own networks share: they end in global average pooling and one linear layer; timm's interface."""

from typing import ClassVar

from torch import Tensor, nn


class PooledNetwork(nn.Module):
    """A network whose logits are one linear layer of the mean of its last map, so that its CAM is exact.

    A family fills ``forward_intermediates`` and says where its classifier and its first convolution are, and which
    maps published tables compare; it calls `he_normal` itself, since the ShuffleNets start as torch does.
    """

    classifier_name: ClassVar[str]
    first_conv: ClassVar[str]
    published_indices: ClassVar[tuple[int, ...]]
    """Which maps of ``forward_intermediates`` HobbitLong/RepDistiller's distillation compares: its ``feat[1:-1]``."""

    def __init__(self, num_features: int, *, num_classes: int, drop_rate: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.drop_rate = drop_rate  # of the embedding, in training
        self.num_features = self.head_hidden_size = num_features

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last map, and maps (N, C, H, W) shallow to deep with the last one, of normalised images."""
        raise NotImplementedError

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map (N, C, H, W) of normalised images."""
        return self.forward_intermediates(x)[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (N, K) of a last map; ``pre_logits``: the embedding (N, C) instead."""
        embedding = x.mean((2, 3))
        if self.drop_rate > 0:
            embedding = nn.functional.dropout(embedding, self.drop_rate, self.training)
        if pre_logits:
            return embedding
        logits: Tensor = self.get_classifier()(embedding)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, K) of normalised images (N, in_chans, H, W)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the linear layer that gives the logits."""
        return self.get_submodule(self.classifier_name)

    def reset_classifier(self, num_classes: int) -> None:
        """Put a fresh linear layer of another class count in place of the classifier; 0: none."""
        self.num_classes = num_classes
        self.set_submodule(self.classifier_name, linear_layer(self.num_features, num_classes))


def linear_layer(num_features: int, num_classes: int) -> nn.Module:
    """Return the linear layer of a classifier, with torch's own random weights; of 0 classes: the identity."""
    return nn.Linear(num_features, num_classes) if num_classes > 0 else nn.Identity()


def he_normal(network: nn.Module) -> None:
    """Draw all convolutions anew from a normal distribution of variance 2 / (kernel area * output channels).

    Source: He et al. 2015 (arXiv 1502.01852), with the fan-out as HobbitLong/RepDistiller has it, which does
    not divide by the groups of a depthwise convolution. Their biases become 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


__all__ = ["PooledNetwork", "he_normal", "linear_layer"]
