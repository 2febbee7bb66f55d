from kdcam.blocks.document import notes_on_runs, side_by_side


def test_columns_that_lack_rows() -> None:
    rows = side_by_side([{("a", "x"): "1", ("b", ""): "2"}, {("b", ""): "3", ("c", ""): "4"}])
    assert rows == [("a", "x", "1", "-"), ("b", "", "2", "3"), ("c", "", "-", "4")]


def test_what_all_have_is_said_once() -> None:
    assert [note.text for note in notes_on_runs([("a", "x"), ("b", "x")], runs=2)] == ["x"]
    assert [note.text for note in notes_on_runs([("a", "x"), ("b", "y"), ("c", "x")], runs=3)] == [
        "a, c: x",
        "b: y",
    ]
    assert [note.text for note in notes_on_runs([("a", "x")], runs=2)] == ["a: x"]
