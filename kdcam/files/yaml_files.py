"""YAML, in which YOLO data sets name their classes: all values are read as texts, and nothing is constructed."""

from pathlib import Path
from typing import Any

import yaml

from kdcam.errors import KdcamError
from kdcam.files.parsed_values import check_values, deep_bracket_place
from kdcam.files.paths import shown
from kdcam.files.text_files import read_text

YAML_LIMIT = 2 * 10**6  # bytes of a file, of which PyYAML reads some 100,000 a second; kdcam's choice
_MOST_VALUES = 1_000_000  # with those that aliases repeat


class _TextLoader(yaml.BaseLoader):  # type: ignore[misc]  # PyYAML is untyped
    """Makes lists, tables and texts, whatever tags stand there; a key may stand once in a table."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Return the table of a node."""
        table = super().construct_mapping(node, deep=deep)
        if len(table) < len(node.value):
            raise yaml.constructor.ConstructorError(
                None, None, "a key stands twice in one table", node.start_mark
            )
        return table


def read_yaml(path: Path, *, error: type[KdcamError], limit: int = YAML_LIMIT) -> Any:
    """Return what a YAML file holds, as lists, tables and texts: no, 3 and 2001-01-01 are texts, too.

    Raises:
        KdcamError: of the type ``error``: the file cannot be read, is no UTF-8 text or no YAML, a key stands twice in a
            table, or a value is one that `check_values` refuses.
    """
    place = shown(path)
    text = read_text(path, error=error, limit=limit)
    try:
        document = yaml.load(text, Loader=_TextLoader)  # constructs nothing but texts, lists and tables
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(problem, "problem", None) or getattr(problem, "reason", None) or "cannot be read"
        raise error(f"{place}{line}: is no YAML ({str(reason)[:200]})") from None
    except (ValueError, OverflowError):  # chr's, of an escape that is no character
        raise error(f"{place}: is no YAML (an escape in it is no character)") from None
    except RecursionError:
        where = deep_bracket_place(text)
        raise error(f"{place}{where}: is no YAML that is read (hundreds of nested brackets)") from None
    check_values(document, place=place, error=error, most_values=_MOST_VALUES)
    return document


__all__ = ["YAML_LIMIT", "read_yaml"]
