"""What a network says when it cannot read an image, in kdcam's words."""

from collections.abc import Iterator
from contextlib import contextmanager

from kdcam.errors import ModelError
from kdcam.settings.messages import reason_text


@contextmanager
def translate_image_errors(name: str, shape: tuple[int, ...]) -> Iterator[None]:
    """Turn what the network ``name`` raises on images of ``shape`` (C, H, W) into ``ModelError`` with the way out."""
    try:
        yield
    except (RuntimeError, AssertionError, ValueError) as error:
        size = " x ".join(map(str, shape))
        reason = reason_text(error)
        raise ModelError(
            f"model.name: {name!r} cannot read images of {size}: {reason}; "
            "set another data.image_size, or take a network made for small images (kdcam:resnet20)"
        ) from error


__all__ = ["translate_image_errors"]
