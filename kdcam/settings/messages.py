"""Words that several messages share."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

_SHOWN_LENGTH = 60  # characters of a value in a message
_LONGEST_REASON = 300  # letters; what libraries say of damaged files has no bound
_JOINERS = "\u200c\u200d"  # zero width, but words of Persian and families of emoji are spelt with them


def one_line(text: str) -> str:
    """Return a text on one line as any screen shows it.

    What a screen would obey in the place of showing it, line breaks, control characters and marks of the writing
    direction, and what has no UTF-8 form, stands as an escape such as ``\\n`` or ``\\u202e``: a name cannot pass for
    another one, or for a message.
    """
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")


def message_text(text: str) -> str:
    """Return a message as any screen shows it: each of its lines as `one_line` does.

    Its own line breaks are those before two spaces: a line of a message never begins at the margin but the first.
    """
    first, *others = text.split("\n  ")
    return "\n  ".join([one_line(first), *map(one_line, others)])


def short(value: object, *, most: int = _SHOWN_LENGTH) -> str:
    """Return a value as a message may show it: its ``repr``, cut where it is long, whatever the value is."""
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str | bytes) and len(value) > most:
        return f"{'a table' if isinstance(value, Mapping) else 'a list'} of {len(value)} values"
    try:
        text = repr(value[: most + 1] if isinstance(value, str | bytes) else value)
    except (ValueError, RecursionError):  # more digits than Python writes, or lists in lists without end
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= most else f"{text[:most]}..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest known spelling, or an empty text where none is close."""

    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def listed(words: Iterable[object]) -> str:
    """Return words joined by commas, or ``none``."""
    return ", ".join(str(word) for word in words) or "none"


def first_few(words: Iterable[object], *, most: int = 3, between: str = ", ") -> str:
    """Return the first words and how many follow, ``a, b, c and 4 more``; ``none`` where there is none.

    ``most``: how many are named; the usual three are kdcam's choice.
    """
    texts = [str(word) for word in words]
    more = f"{between.strip(', ')} and {len(texts) - most} more" if len(texts) > most else ""
    return between.join(texts[:most]) + more or "none"


def reason_text(error: BaseException) -> str:
    """Return in one short line why something failed: the system's own words, else the first line of the error's."""
    words = getattr(error, "strerror", None) or str(error)
    lines = words.strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= _LONGEST_REASON else f"{lines[0][:_LONGEST_REASON]}..."


def duration_text(seconds: float) -> str:
    """Return a time as minutes and seconds, with hours where there are any: 1:15, 2:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def amount_text(amount: float, norm: str) -> str:
    """Return an amount in pixel units; of a pixel (linf) in grey levels, as 8/255, where the decimal is longer."""
    levels = amount * 255
    whole = norm == "linf" and abs(levels - round(levels)) < 1e-6
    return f"{round(levels)}/255" if whole and float(f"{amount:.3g}") != amount else f"{amount:g}"


def eps_text(norm: str, eps: float) -> str:
    """Return how far an attack may go, in pixel units: ``linf eps 8/255``."""
    return f"{norm} eps {amount_text(eps, norm)}"


def failed_check_text(name: str, text: str, value: float, limit: float, *, warning: str) -> str:
    """Return in words what a failed check of attacks found, and what that means."""
    return f"check {name} failed ({text}: {value:.3g}, limit {limit:.3g}): {warning}"


__all__ = [
    "amount_text",
    "did_you_mean",
    "duration_text",
    "eps_text",
    "failed_check_text",
    "first_few",
    "listed",
    "message_text",
    "one_line",
    "reason_text",
    "short",
]
