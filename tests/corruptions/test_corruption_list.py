"""Tests of kdcam.corruptions.corruption_list."""

import subprocess
import sys

import pytest

from kdcam.corruptions.corruption_list import CORRUPTIONS, SEVERITIES, corruptions_for


def test_names_and_strengths() -> None:
    assert len(CORRUPTIONS) == 13
    for name, found in CORRUPTIONS.items():
        steps = [second - first for first, second in zip(found.strengths, found.strengths[1:], strict=False)]
        assert all(step > 0 for step in steps) or all(step < 0 for step in steps), name
        assert [found.strength(severity) for severity in SEVERITIES] == list(found.strengths)


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_severities_are_one_to_five(severity: int) -> None:
    with pytest.raises(ValueError, match=rf"severity is {severity}; wanted a whole number from 1 to 5"):
        CORRUPTIONS["fog"].strength(severity)


def test_gray_pictures_have_twelve() -> None:
    assert len(corruptions_for(3)) == 13
    assert set(CORRUPTIONS) - set(corruptions_for(1)) == {"saturation"}


def test_no_torch_is_read() -> None:
    code = "import sys, kdcam.corruptions.corruption_list; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
