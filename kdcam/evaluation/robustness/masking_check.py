"""What a check of attacks found, and when a share says something at all."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from kdcam.evaluation.robustness.probe import Budget

MASKING_WARNING = "this number may be gradient masking"
LEAST_IMAGES = 10  # kdcam's choice: one image of fewer says nothing of a share
BLACK_BOX_LIMIT = 0.002  # AutoAttack's 0.2 points

_ROUNDING = 1e-9  # of differences of shares: 0.4 - 0.3 is more than 0.1


class MaskingCheck(BaseModel):
    """One sign: whether it is as it should be."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    value: float | None  # None: there was too little to measure it on, so that it counts as passed
    limit: float
    text: str  # what was measured, and what a failure means
    eps: float | None = (
        None  # [0, 1] pixel units, of the budget that it was measured at; None: without an attack
    )


def share_check(
    name: str, share: float, limit: float, text: str, images: int, *, eps: float | None = None
) -> MaskingCheck:
    """Return a check of a share that should not be above a limit; of too few images it says nothing."""
    judged = images >= LEAST_IMAGES
    passed, value = share <= limit + _ROUNDING or not judged, share if judged else None
    return MaskingCheck(name=name, passed=passed, value=value, limit=limit, text=text, eps=eps)


def failed_checks(checks: Sequence[MaskingCheck]) -> tuple[MaskingCheck, ...]:
    """Return the checks that are not as they should be."""
    return tuple(check for check in checks if not check.passed)


def at_budget_text(budget: Budget) -> str:
    """Return in words where a check was made."""
    return f"at {budget.norm} eps {budget.eps:.3g}"


__all__ = [
    "BLACK_BOX_LIMIT",
    "LEAST_IMAGES",
    "MASKING_WARNING",
    "MaskingCheck",
    "at_budget_text",
    "failed_checks",
    "share_check",
]
