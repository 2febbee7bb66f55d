"""Words that several error messages share."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest known spelling, or an empty text where none is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def listed(words: Iterable[object]) -> str:
    """Return words joined by commas, or ``none``."""
    return ", ".join(str(word) for word in words) or "none"


__all__ = ["did_you_mean", "listed"]
