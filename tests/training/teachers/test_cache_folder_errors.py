import pytest

from kdcam.errors import CheckpointError
from kdcam.training.teachers.cache_folder import cache_folder_errors


def test_only_what_the_system_refuses_is_told_anew() -> None:
    with pytest.raises(CheckpointError, match=r"^another sentence$"), cache_folder_errors("x", "y"):
        raise CheckpointError("another sentence")
    with (
        pytest.raises(CheckpointError, match=r"^teacher.cache_folder: x \(full\); y$"),
        cache_folder_errors("x", "y"),
    ):
        raise OSError(28, "full")
