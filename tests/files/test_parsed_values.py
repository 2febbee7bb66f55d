import pytest

from kdcam.errors import DataError
from kdcam.files.parsed_values import check_values


def test_many_values_are_checked_without_recursion() -> None:
    check_values({"a": [[[{"b": list(range(1000))}]]]}, place="x", error=DataError)
    with pytest.raises(DataError, match="holds more than 100 values"):
        check_values(list(range(100)), place="x", error=DataError, most_values=100)
