"""The subcommands of `kdcam`, and the one place where an error becomes a line and an exit code.

Command modules import nothing slow at their top, so that ``kdcam --help`` waits for neither torch nor timm: what a
command needs of them it imports itself, with a word on what is slow.
"""

from io import StringIO
from typing import Annotated, Any

import typer

import kdcam
from kdcam.errors import Interrupted, KdcamError
from kdcam.runtime.memory import memory_text

from . import losses, models, recipes, render
from .compare import compare
from .distill import distill
from .doctor import doctor
from .evaluate import evaluate
from .evaluate_robustness import evaluate_robustness
from .explain import explain
from .export import export
from .few_shot import few_shot
from .finetune import finetune
from .localize import localize
from .make_pairs import make_pairs
from .predict import predict
from .quickstart import quickstart
from .report import report
from .signals import INTERRUPTED
from .train import train
from .verify import verify

_UsageError: Any = typer.BadParameter.__mro__[1]  # which typer does not name

app = typer.Typer(
    name="kdcam",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: a third of the time, and it reads the same in a pipe
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    train,
    distill,
    finetune,
    compare,
    evaluate,
    evaluate_robustness,
    predict,
    explain,
    few_shot,
    localize,
    verify,
    make_pairs,
    report,
    export,
    quickstart,
):
    app.command(name=_command.__name__.replace("_", "-"))(_command)
app.add_typer(recipes.app, name="recipes")
app.add_typer(losses.app, name="losses")
app.add_typer(models.app, name="models")
app.command()(doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        render.show_text(kdcam.__version__)
        raise typer.Exit


@app.callback()
def kdcam_command(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Train, distil and stress-test image classifiers."""
    del version


def run() -> int:
    """Run the command line and return its exit code; 130 where it was interrupted, by whatever signal."""
    try:
        code = app(standalone_mode=False)  # of --help and the like, or what a command returns: None
        return code if isinstance(code, int) else 0
    except _UsageError as error:
        words = StringIO()
        error.show(words)
        render.show_usage(words.getvalue())
        return int(error.exit_code)
    except Interrupted as stop:
        render.show_notice(f"kdcam: {stop}")
        return INTERRUPTED
    except KdcamError as error:
        render.show_error(str(error))
        return 1
    except Exception as error:
        lack = memory_text(error)
        if lack is None:
            raise
        render.show_error(f"{lack}; lower --batch-size, take a smaller network, or end other programs")
        return 1


__all__ = ["app", "run"]
