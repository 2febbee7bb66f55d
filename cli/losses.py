"""`kdcam losses list` and `kdcam losses show NAME`."""

import inspect
import re
from typing import TYPE_CHECKING, Annotated

import typer

from kdcam.blocks.document import Table
from kdcam.errors import RecipeError
from kdcam.settings.messages import did_you_mean, listed

from . import render
from .options import Json

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

app = typer.Typer(
    no_args_is_help=True, help="What a recipe's [[loss]] tables can name.", rich_markup_mode=None
)


@app.command("list")
def list_losses(as_json: Json = False) -> None:
    """List the losses.

    What each needs, which targets it takes, and its idea.
    """
    from kdcam.losses import LOSSES  # slow: torch

    cards = [
        {
            "name": name,
            "summary": _summary(config),
            "needs": sorted(config.needs),
            "takes": sorted(config.takes),
        }
        for name, config in sorted(LOSSES.items())
    ]
    if as_json:
        render.show_json(cards)
        return
    rows = [
        (str(card["name"]), ", ".join(card["needs"]) or "-", ", ".join(card["takes"]), str(card["summary"]))
        for card in cards
    ]
    render.show_table(Table(("loss", "needs", "takes", "summary"), rows, left=4))


@app.command("show")
def show_loss(
    name: Annotated[str, typer.Argument(help="A name of `kdcam losses list`.")],
    as_json: Json = False,
) -> None:
    """Print the card of a loss.

    Idea, equation, when it helps and where it fails, and its keys with their defaults.
    """
    from kdcam.losses import LOSSES  # slow: torch

    if name not in LOSSES:
        raise RecipeError(
            f"loss {name!r}: there is no such loss{did_you_mean(name, LOSSES)}; known: {listed(LOSSES)}"
        )
    config = LOSSES[name]
    fields = {key: field for key, field in config.model_fields.items() if key != "name"}
    if as_json:
        render.show_json(
            {
                "name": name,
                "card": _card(config),
                "needs": sorted(config.needs),
                "takes": sorted(config.takes),
                "keys": {key: _key_facts(field) for key, field in fields.items()},
            }
        )
        return
    render.show_page(f"{name}\n\n{_card(config)}")
    render.show_text("")
    render.show_text(f"Needs: {listed(sorted(config.needs))}")
    render.show_text(f"Takes: {listed(sorted(config.takes))}")
    render.show_text("")
    rows = [(key, _default_text(field), field.description or "") for key, field in fields.items()]
    render.show_table(Table(("key", "default", "meaning"), rows, left=3))


def _card(config: type) -> str:

    return inspect.getdoc(config) or ""


def _summary(config: type) -> str:
    """Return a card's first sentence-like part on one line, without the reference in brackets."""

    first = " ".join(_card(config).split("\n\n")[0].split())
    return re.sub(r" \([^()]*(\([^()]*\)[^()]*)*\)", "", first).rstrip(".")


def _key_facts(field: "FieldInfo") -> dict[str, object]:
    required = field.is_required()
    return {
        "required": required,
        "default": None if required else field.default,
        "meaning": field.description or "",
    }


def _default_text(field: "FieldInfo") -> str:
    return "(required)" if field.is_required() else str(field.default)


__all__ = ["app", "list_losses", "show_loss"]
