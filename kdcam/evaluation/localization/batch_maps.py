"""The activation maps of a batch of images, each of one class."""

import torch
from torch import Tensor

from kdcam.cam.maps import caam, grad_cam, hires_cam, target_cam
from kdcam.evaluation.localization.localization_schema import MapKind
from kdcam.explanation.class_maps import method_for
from kdcam.models.classifier import Classifier
from kdcam.models.token_maps import spatial_reader
from kdcam.runtime.numerics import require_finite_outputs


def map_kind_for(classifier: Classifier, kind: MapKind) -> MapKind:
    """Return ``kind``, or "gradcam" where "cam" is asked of a network without an exact CAM.

    Raises ``ModelError`` where the network has no map to show at all.
    """
    found = method_for(classifier, "gradcam" if kind == "caam" else kind)
    return kind if kind == "caam" else found


def batch_maps(classifier: Classifier, images: Tensor, classes: Tensor | None, kind: MapKind) -> Tensor:
    """Return a map for each image, of a classifier in eval mode; no gradient stays.

    Args:
        classifier: with a map that ``kind`` can read; see `map_kind_for`.
        images: (N, C, S, S) in [0, 1].
        classes: (N,) int64; None: the class that the network says.
        kind: "cam" (without the bias), "caam" (of no class) "gradcam" or "hirescam"; see `kdcam.cam.maps`.

    Returns:
        (N, H, W) float32.

    Raises ``ModelError`` where the network has no map to read (see `kdcam.models.token_maps.spatial_reader`), and where
    its logits or maps are not finite.
    """
    by_gradient = kind in ("gradcam", "hirescam")
    # Leaving inference mode is not enough for its tensors: only their copies can enter autograd.
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(by_gradient),
        torch.autocast(images.device.type, enabled=False),
    ):
        outputs = spatial_reader(classifier)(images.detach().clone().requires_grad_(by_gradient))
        feature_map = outputs.feature_map
        assert feature_map is not None
        require_finite_outputs(outputs.logits, "a batch of images")
        require_finite_outputs(feature_map, "a batch of images", what="feature maps")
        of = outputs.logits.detach().argmax(1) if classes is None else classes
        if kind == "caam":
            return caam(feature_map).detach()
        if kind == "cam":
            assert outputs.weight is not None
            return target_cam(feature_map, outputs.weight, of).detach()
        # In eval mode an image's score depends on its own map alone: one backward pass gives all gradients.
        score = outputs.logits.gather(1, of[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, feature_map)
        return (grad_cam if kind == "gradcam" else hires_cam)(feature_map.detach(), gradient)


__all__ = ["batch_maps", "map_kind_for"]
