import pytest

from kdcam.comparison.table.comparison_result import epochs_to_reach


@pytest.mark.parametrize(("level", "epoch"), [(0.1, 1), (0.2, 1), (0.21, 3), (0.5, 3), (0.51, None)], ids=str)
def test_epochs_to_reach(level: float, epoch: int | None) -> None:
    assert epochs_to_reach((0.2, None, 0.5, 0.3), level) == epoch


def test_nothing_reaches_anything() -> None:
    assert epochs_to_reach((), 0.0) is None
