"""`kdcam models list`."""

from typing import Annotated, Literal

import typer

from kdcam.blocks.document import Table

from . import render
from .options import Json

app = typer.Typer(no_args_is_help=True, help="What a recipe's model.name can name.", rich_markup_mode=None)

_CAM_WORDS = {True: "yes", False: "no", None: "?"}


@app.callback()
def models() -> None:
    """What a recipe's model.name can name."""


@app.command("list")
def list_networks(
    pattern: Annotated[
        str | None, typer.Argument(help="Text in the name, or a pattern with * and ?.")
    ] = None,
    source: Annotated[
        Literal["kdcam", "timm", "torchvision"] | None,
        typer.Option("--source", help="Only networks of one source."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the networks.

    The last column says whether a network has the exact class activation map that CAM losses need; "?": not
    known by its family, `kdcam train` finds it out before any work.
    """
    from kdcam.models import has_exact_cam, list_models  # slow: torch

    found = [
        (model.name, model.source, has_exact_cam(model.name))
        for model in list_models(pattern)
        if source in (None, model.source)
    ]
    if as_json:
        render.show_json(
            [{"name": name, "source": library, "exact_cam": cam} for name, library, cam in found]
        )
        return
    if not found:
        render.show_notice("no network has such a name; `kdcam models list` prints all of them")
        return
    rows = [(name, library, _CAM_WORDS[cam]) for name, library, cam in found]
    render.show_table(Table(("name", "source", "exact CAM"), rows, left=3))


__all__ = ["app", "list_networks"]
