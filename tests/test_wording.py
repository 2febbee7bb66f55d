import pytest

from kdcam.wording import did_you_mean, listed


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
