"""How much work an attack is, in images that went through the network."""

from torch import Tensor, nn


class CountedClassifier(nn.Module):
    """A classifier that counts the images it sees and those whose gradient is taken, whatever the attack.

    It gives what the classifier gives, on the same weights.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.forwards = 0  # images
        self.backwards = 0  # images
        self.training = classifier.training  # train() would unfreeze a BatchNorm that was frozen on purpose

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, C, H, W)."""
        count = len(images)
        self.forwards += count
        logits: Tensor = self.classifier(images)
        if logits.requires_grad:
            logits.register_hook(lambda _: self._add_backwards(count))
        return logits

    def _add_backwards(self, images: int) -> None:
        self.backwards += images


__all__ = ["CountedClassifier"]
