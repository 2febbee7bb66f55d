"""What the user sees: results on stdout; progress and messages on stderr. The only module that prints.

Nothing that a user named, a class or a file, can add a line, or make a screen do anything but show it: every text goes
through `kdcam.settings.messages.message_text` or `one_line` here, so that no message need do so.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kdcam.blocks.document import Table
from kdcam.files.json_files import json_form
from kdcam.runtime.progress import EpochRecord, Progress, Silent, StepRecord
from kdcam.scores.main_scores import score_text
from kdcam.settings.messages import duration_text, message_text, one_line

from .signals import Stopper, stopping
from .streams import encodable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_EPOCH_SCORES = ("acc1", "mean_ap", "nll")  # on an epoch's line; metrics.jsonl has all


def show_text(text: str) -> None:
    """Print a line of a result; lines that go on with it begin with two spaces."""
    _write(message_text(text))


def show_page(text: str) -> None:
    """Print a text of several lines as it is written: a recipe, or the card of a loss.

    What a screen would obey and what stdout's encoding has not is written as TOML's strings and JSON's write it:
    ``\\u202e``.
    """
    _write("\n".join(map(_escaped, text.rstrip("\n").split("\n"))))


def show_json(value: Any) -> None:
    """Print a result as one JSON document; NaN and infinity, which JSON lacks, become null.

    It reads back as it was, whatever the encoding of stdout is.
    """
    text = json.dumps(json_form(value), indent=2, ensure_ascii=False)
    lines = text.split("\n")
    if any(one_line(line) != line for line in lines) or encodable(text, sys.stdout.encoding) != text:
        text = json.dumps(json_form(value), indent=2, ensure_ascii=True)
    _write(text)


def show_table(table: Table) -> None:
    """Print a table: as wide as it is where stdout is no terminal, folded into the window where it is one."""
    from rich import box  # slow: rich
    from rich.table import Table as RichTable  # slow: rich

    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(table.columns):
        drawn.add_column(_cell(name), justify="left" if index < table.left else "right", overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(_cell, row))
    console = _console(error=False)
    with console.capture() as capture:
        console.print(drawn)
    lines = [line.rstrip() for line in capture.get().split("\n")]
    title = [_cell(table.title)] if table.title else []
    _write("\n".join([*title, *(line for line in lines if line)]))


def show_tables(tables: Iterable[Table]) -> None:
    """Print tables, an empty line between two."""
    for index, table in enumerate(tables):
        if index > 0:
            _write("")
        show_table(table)


def show_error(text: str) -> None:
    """Print an error on stderr."""
    _say(f"kdcam: error: {text}")


def show_notice(text: str) -> None:
    """Print a line on stderr that belongs to no progress."""
    _say(text)


def show_usage(text: str) -> None:
    """Print what is wrong with a command line on stderr, as typer words it: it quotes the command line as it is."""
    lines = text.rstrip("\n").split("\n")
    sys.stderr.write("\n".join("\t".join(map(one_line, line.split("\t"))) for line in lines) + "\n")
    sys.stderr.flush()


@contextmanager
def watching(*, quiet: bool) -> Iterator[Progress]:
    """Show the progress of the work inside: bars on a terminal, else a line an epoch; ``quiet``: warnings.

    Ctrl-C, SIGTERM and SIGHUP ask work that keeps its state to stop at the next step; a second one stops at once.

    Raises ``RecipeError`` where this is one of several processes.
    """
    from kdcam.runtime.distributed import check_single_process  # slow: torch

    check_single_process()
    with stopping() as stopper:
        if quiet:
            yield QuietProgress(stopper)
        elif not sys.stderr.isatty():
            yield LineProgress(stopper)
        else:
            with BarProgress(stopper) as bars:
                yield bars


class QuietProgress(Silent):
    """Shows warnings only."""

    def __init__(self, stopper: Stopper) -> None:
        self.stopper = stopper

    def warning(self, text: str) -> None:
        """Print a warning."""
        _say(f"warning: {text}")

    def should_stop(self) -> bool:
        """Return whether a signal asked to stop."""
        return self.stopper.asked()


class LineProgress(QuietProgress):
    """Shows messages and one plain line an epoch."""

    def message(self, text: str) -> None:
        """Print a message."""
        _say(text)

    def epoch(self, record: EpochRecord) -> None:
        """Print an epoch's line."""
        _say(epoch_line(record))


class BarProgress(QuietProgress):
    """Shows a bar for what is being done, messages and the epochs' lines above it."""

    def __init__(self, stopper: Stopper) -> None:
        super().__init__(stopper)
        self.bars = _bars(_console(error=True))
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "BarProgress":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def message(self, text: str) -> None:
        """Print a message above the bar."""
        self._print(text)

    def warning(self, text: str) -> None:
        """Print a warning above the bar."""
        self._print(f"warning: {text}", style="yellow")

    def step(self, record: StepRecord) -> None:
        """Move the bar of the running epoch."""
        detail = f"{_loss_terms_text(record.terms)}  {_throughput_text(record.images_per_second, record.seconds_left)}"
        self._move(f"epoch {record.epoch}/{record.epochs}", record.step, record.steps, detail)

    def epoch(self, record: EpochRecord) -> None:
        """Print an epoch's line above the bar."""
        self.message(epoch_line(record))

    def advance(self, task: str, done: int, total: int) -> None:
        """Move the bar of other work."""
        self._move(task, done, total, "")

    def _print(self, text: str, *, style: str | None = None) -> None:
        self.bars.console.print(
            message_text(text), style=style, markup=False, highlight=False, soft_wrap=True
        )

    def _move(self, name: str, done: int, total: int, detail: str) -> None:
        detail = one_line(detail)
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(one_line(name), total=total, completed=done, detail=detail)
        self.bars.update(self.tasks[name], completed=done, total=total, detail=detail)
        if done >= total:
            self.bars.remove_task(self.tasks.pop(name))


def epoch_line(record: EpochRecord) -> str:
    """Return the result of an epoch on one line."""
    validation = [
        f"{name} {score_text(name, value)}"
        for name, value in record.validation.items()
        if name in _EPOCH_SCORES
    ]
    parts = [
        f"epoch {record.epoch}/{record.epochs}",
        _loss_terms_text(record.terms),
        *([f"validation {', '.join(validation)}"] if validation else []),
        f"lr {record.learning_rate:.3g}",
        _throughput_text(record.images_per_second, record.seconds_left),
    ]
    return "  ".join(parts) + ("  (selected)" if record.best and validation else "")


def _loss_terms_text(terms: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in terms.items())


def _throughput_text(images_per_second: float, seconds_left: float) -> str:
    return f"{images_per_second:,.0f} images/s  {duration_text(seconds_left)} left"


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()  # a closed pipe is noticed here


def _say(text: str) -> None:
    sys.stderr.write(message_text(text) + "\n")
    sys.stderr.flush()


def _cell(text: str) -> str:
    """Return a text as a table holds it; a message of several lines as one."""
    return one_line(re.sub(r"\n  +", " ", text))


def _escaped(line: str) -> str:
    if line.isprintable() and encodable(line, sys.stdout.encoding) == line:
        return line
    return "".join(map(_escaped_character, line))


def _escaped_character(character: str) -> str:
    code = ord(character)
    if character == "\t" or one_line(character) == encodable(character, sys.stdout.encoding) == character:
        return character
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _console(*, error: bool) -> "Console":
    from rich.console import Console  # slow: rich

    stream = sys.stderr if error else sys.stdout
    # emoji: a class called ":cat:" is no cat
    return Console(
        file=stream, width=None if stream.isatty() else 1000, highlight=False, markup=False, emoji=False
    )


def _bars(console: "Console") -> "Bars":
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn  # slow: rich
    from rich.progress import Progress as Bars  # slow: rich

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
        console=console,
        transient=True,
        refresh_per_second=5,
    )


__all__ = [
    "BarProgress",
    "LineProgress",
    "QuietProgress",
    "epoch_line",
    "show_error",
    "show_json",
    "show_notice",
    "show_page",
    "show_table",
    "show_tables",
    "show_text",
    "show_usage",
    "watching",
]
