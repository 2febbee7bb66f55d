"""metrics.jsonl: one line an epoch, appended and synced, cut back when a run goes on from an older state."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import write_atomically, write_synced
from kdcam.files.json_files import parse_json
from kdcam.files.json_files_part import json_form
from kdcam.files.paths import exists, read_bounded
from kdcam.files.text_files import TEXT_LIMIT

METRICS_FILE = "metrics.jsonl"


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl in order; none where the file is missing.

    A last line without its end, left by a killed process, is ignored.

    Raises:
        CheckpointError: Another line is not a JSON object with an "epoch".
    """
    path = folder / METRICS_FILE
    if not exists(path):
        return []
    content = read_bounded(path, limit=TEXT_LIMIT, error=CheckpointError)
    lines = content.split(b"\n")[:-1]
    return [_parse_line(path, number, line) for number, line in enumerate(lines, start=1)]


def append_metrics(folder: Path, record: Mapping[str, Any]) -> None:
    """Append one line and sync it to the disk; ``record`` holds at least "epoch".

    Raises:
        CheckpointError: The line cannot be written; the lines before it stay as they were.
    """
    path = folder / METRICS_FILE
    line = _metrics_line(json_form(record))
    try:
        with path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                write_synced(file.fileno(), line)
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise
    except OSError as error:
        raise CheckpointError(
            f"{path}: a line could not be added ({error.strerror or error}); the lines before it are whole. "
            "Free some space and run the same command again"
        ) from error


def cut_metrics(folder: Path, last_epoch: int) -> None:
    """Drop the lines after ``last_epoch`` (counted from 1; 0 drops all) and a torn last one."""
    kept = [record for record in read_metrics(folder) if record["epoch"] <= last_epoch]
    write_atomically(folder / METRICS_FILE, b"".join(_metrics_line(record) for record in kept))


def _metrics_line(record: Any) -> bytes:
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


def _parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    place = f"{path}, line {number}"
    record: dict[str, Any] = parse_json(
        line, error=CheckpointError, place=str(path), line=number, way_out="mend or remove the line"
    )
    epoch = record.get("epoch") if isinstance(record, dict) else None
    if not isinstance(epoch, int) or isinstance(epoch, bool):
        raise CheckpointError(f"{place}: expected an object with a whole number as 'epoch'")
    return record


__all__ = ["METRICS_FILE", "append_metrics", "cut_metrics", "read_metrics"]
