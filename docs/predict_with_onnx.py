"""What a network that kdcam exported says of pictures, with Pillow, numpy and onnxruntime alone.

    kdcam export runs/student-0 --format onnx -o student.onnx
    python predict_with_onnx.py student.onnx photo.jpg ...

prints a line of JSON for each picture, with the probabilities that `kdcam predict` gives. The file's metadata name each
step under "preprocessing".
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def network_input(path: str, size: int, channels: int) -> np.ndarray:
    """Return a picture as the network takes it: (1, channels, size, size) float32 in [0, 1]."""
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
    if "A" in image.getbands() or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    square = (left, top, left + side, top + side)
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=square)
    planes = np.atleast_3d(np.asarray(image, np.float32) / 255).transpose(2, 0, 1)
    return planes[None]


def main(model: str, *pictures: str) -> None:
    """Print what a network says of each picture."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    names = json.loads(told["label_names"])
    _, channels, size, _ = session.get_inputs()[0].shape
    for picture in pictures:
        (logits,) = session.run(["logits"], {"images": network_input(picture, size, channels)})
        logits = logits[0].astype(np.float64)
        if told["task"] == "multi-label":
            scores = 1 / (1 + np.exp(-logits))
        else:
            scores = np.exp(logits - logits.max())
            scores /= scores.sum()
        print(
            json.dumps({"picture": picture, "probabilities": dict(zip(names, scores.tolist(), strict=True))})
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
