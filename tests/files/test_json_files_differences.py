import pytest

from kdcam.files.json_files import Difference, first_difference, value_text


@pytest.mark.parametrize(
    ("there", "here", "difference"),
    [
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}, Difference("b.c", 2, 3)),
        ({"b": [1, {"c": 2}]}, {"b": [1, {"c": 3}]}, Difference("b[1].c", 2, 3)),
        ({"b": [1, 2]}, {"b": [1]}, Difference("b", [1, 2], [1])),
        ({"a": 1}, {}, Difference("a", 1, None)),
        ({}, {"a": 1}, Difference("a", None, 1)),
        ({"b": 1, "a": 2}, {"a": 3, "b": 4}, Difference("b", 1, 4)),
        (3, {"a": 1}, Difference("", 3, {"a": 1})),
    ],
)
def test_the_first_difference_has_its_place_and_both_values(
    there: object, here: object, difference: Difference
) -> None:
    assert first_difference(there, here) == difference
    assert first_difference(there, there) is None


def test_values_in_words() -> None:
    assert (value_text(None), value_text("ä"), value_text([1])) == ("not set", '"ä"', "[1]")
