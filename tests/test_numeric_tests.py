import numeric_tests
import pytest
from numeric_tests import BITS, FILES, FOLDERS, markers


@pytest.mark.parametrize("name", sorted({*FOLDERS, *FILES, *BITS}))
def test_each_name_is_that_of_a_file_or_folder(name: str) -> None:
    """A file that gets another name must not fall out of what is tried on other processors."""
    assert list(numeric_tests._TESTS.rglob(name))


def test_files_have_the_markers_of_their_names() -> None:
    tests = numeric_tests._TESTS
    assert markers(tests / "losses" / "test_kd.py") == ["numeric"]
    assert markers(tests / "anywhere" / "test_saved_state.py") == ["numeric", "bits"]
    assert markers(tests / "cli" / "test_train.py") == []
