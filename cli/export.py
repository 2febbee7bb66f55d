"""`kdcam export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import render
from .options import Json, Weights


def export(
    run: Annotated[str, typer.Argument(help="A run folder, or a .safetensors file beside its config.json.")],
    format: Annotated[
        Literal["timm", "onnx", "torch-export"],
        typer.Option("--format", help="A folder for timm, an .onnx file, or a .pt2 file."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="PATH", help="The folder or file; must not be there yet."),
    ],
    weights: Weights = "selected",
    as_json: Json = False,
) -> None:
    """Write a run's network for other programs.

    The written network is loaded again, and its logits are compared with those expected.
    """
    from kdcam.runs.network_export import export as write  # slow: torch

    done = write(run, format=format, output=output, weights=weights)
    if as_json:
        render.show_json({**done._asdict(), "path": str(done.path)})
        return
    size = " x ".join(map(str, done.images))
    how = {
        "timm": f'timm.create_model("local-dir:{done.path}", pretrained=True)',
        "onnx": f'onnxruntime.InferenceSession("{done.path}")',
        "torch-export": f'torch.export.load("{done.path}").module()',
    }[done.format]
    render.show_text(
        f"{done.path}: reads images of {size}, any number; largest difference of the logits: "
        f"{done.largest_difference:.1g}"
    )
    if done.change is not None:
        render.show_text(f"changed: {done.change}")
    render.show_text(f"load it with {how}")


__all__ = ["export"]
