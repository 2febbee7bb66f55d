import pytest

from kdcam.evaluation.robustness.gradient_masking_check import LEAST_IMAGES, failed_checks, share_check


@pytest.mark.parametrize(
    ("before", "after", "images", "passed"),
    [(0.3, 0.4, 10, True), (0.55, 0.57, 50, True), (0.3, 0.5, 10, False), (0.1, 0.13, 50, False)],
)
def test_a_rise_at_the_limit_passes_whatever_its_last_digits(
    before: float, after: float, images: int, passed: bool
) -> None:
    check = share_check("rise", after - before, max(0.02, 1 / images), "", images, eps=0.1)
    assert (check.passed, check.eps) == (passed, 0.1)
    assert failed_checks([check]) == (() if passed else (check,))


def test_a_share_of_few_images_says_nothing() -> None:
    few = share_check("few", 1.0, 0.1, "", LEAST_IMAGES - 1)
    assert (few.value, few.passed) == (None, True)
