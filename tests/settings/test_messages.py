from collections.abc import Iterable
from typing import Any

import pytest

from kdcam.settings.messages import (
    did_you_mean,
    duration_text,
    eps_text,
    failed_check_text,
    first_few,
    listed,
    message_text,
    one_line,
    short,
)


@pytest.mark.parametrize(
    ("word", "hint"),
    [("epocs", "; did you mean 'epochs'?"), ("zzz", ""), ("", ""), ("epochs", "; did you mean 'epochs'?")],
)
def test_only_a_close_spelling_is_proposed(word: str, hint: str) -> None:
    assert did_you_mean(word, ["epochs", "batch_size"]) == hint


def test_nothing_known_nothing_proposed() -> None:
    assert did_you_mean("epochs", []) == ""


def test_lists_take_anything_and_an_empty_one_says_so() -> None:
    assert listed(["a", 1, None]) == "a, 1, None"
    assert listed(iter(())) == "none"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "none"),
        (["a"], "a"),
        ("abc", "a, b, c"),
        ("abcd", "a, b, c and 1 more"),
        (range(9), "0, 1, 2 and 6 more"),
    ],
)
def test_first_words_are_named_and_the_others_counted(words: Iterable[object], text: str) -> None:
    assert first_few(words) == text


def test_sentences_are_kept_apart_from_how_many_follow() -> None:
    assert first_few(["a, b", "c", "d"], most=1, between="; ") == "a, b; and 2 more"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (3600, "1:00:00"), (7325, "2:02:05")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("norm", "eps", "text"),
    [
        ("linf", 8 / 255, "linf eps 8/255"),
        ("linf", 0.5, "linf eps 0.5"),
        ("linf", 51 / 255, "linf eps 0.2"),
        ("l2", 8 / 255, "l2 eps 0.0313725"),  # a length over the whole image is no number of grey levels
    ],
)
def test_budgets_are_in_grey_levels_where_that_is_shorter(norm: str, eps: float, text: str) -> None:
    assert eps_text(norm, eps) == text


def test_a_failed_check_says_what_was_measured() -> None:
    told = failed_check_text("rounding", "share that fools", 0.5, 0.95, warning="beware")
    assert told == "check rounding failed (share that fools: 0.5, limit 0.95): beware"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain dög Ещё 猫 🐈", "plain dög Ещё 猫 🐈"),
        ("a\nkdcam: b\r\tc", "a\\nkdcam: b\\r\\tc"),
        ("\x85\u2028\u2029\x0b\x0c\x1c", "\\x85\\u2028\\u2029\\x0b\\x0c\\x1c"),
        ("\u202a\u202b\u202c\u202d\u202e", "\\u202a\\u202b\\u202c\\u202d\\u202e"),
        ("\u2066\u2067\u2068\u2069\u200e\u200f\u061c", "\\u2066\\u2067\\u2068\\u2069\\u200e\\u200f\\u061c"),
        ("\x1b[31m\x9b31m\x00\x7f", "\\x1b[31m\\x9b31m\\x00\\x7f"),
        ("\udcff", "\\udcff"),
        ("می\u200cم 👨\u200d👩 a\u00a0b\u3000c", "می\u200cم 👨\u200d👩 a\u00a0b\u3000c"),
    ],
)
def test_what_a_screen_would_obey_is_escaped(text: str, shown: str) -> None:
    assert one_line(text) == message_text(text) == shown
    assert one_line(shown) == shown
    assert len(shown.splitlines()) <= 1


def test_only_an_indented_line_goes_on_with_a_message() -> None:
    told = message_text("2 problems:\n  a\nkdcam: b\n  c")
    assert told == "2 problems:\n  a\\nkdcam: b\n  c"


def test_values_are_shown_short_whatever_they_are() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert short("x" * 100) == "'" + "x" * 59 + "..."
    assert short(10**5_000) == "a int too long to show"
    assert short([0] * 100) == "a list of 100 values"
    assert len(short(endless)) < 70
    assert short(" a") == "' a'"
