"""`kdcam predict`."""

from pathlib import Path
from typing import Annotated

import typer

from kdcam.blocks.document import Table

from . import render
from .options import Device, Json, Weights


def predict(
    run: Annotated[
        str,
        typer.Argument(help="A run folder, or a .safetensors file beside its config.json."),
    ],
    images: Annotated[list[Path], typer.Argument(help="Picture files, or folders of them.")],
    top: Annotated[int, typer.Option("--top", min=1, metavar="N", help="How many classes to name.")] = 5,
    weights: Weights = "selected",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Name the most likely classes of pictures.

    Of a folder the files that are no pictures, or cannot be read, are left out and counted.
    The score is a probability: of the one label, or, in a run of several labels an image, of each by itself.
    """
    from kdcam.api import predict as predict_pictures  # slow: torch

    with render.watching(quiet=False) as progress:
        found = predict_pictures(run, images, top=top, weights=weights, device=device, progress=progress)
    if as_json:
        render.show_json(
            [
                {
                    "image": str(one.image),
                    "task": one.task,
                    "classes": [
                        {"label": label, "score": score}
                        for label, score in zip(one.labels, one.scores, strict=True)
                    ],
                }
                for one in found
            ]
        )
        return
    rows = [
        (str(one.image) if rank == 0 else "", label, f"{score:.2%}")
        for one in found
        for rank, (label, score) in enumerate(zip(one.labels, one.scores, strict=True))
    ]
    render.show_table(Table(("image", "class", "score"), rows, left=2))


__all__ = ["predict"]
