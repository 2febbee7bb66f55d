"""What is known of one run's robustness: the contents of robustness.json."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from kdcam.evaluation.robustness.attack_report import RobustnessReport
from kdcam.evaluation.robustness.corruption_report import CorruptionReport
from kdcam.evaluation.robustness.masking_check import MASKING_WARNING, MaskingCheck, failed_checks
from kdcam.evaluation.robustness.memorisation import LabelNoiseReport, Memorisation
from kdcam.evaluation.robustness.multi_label_attack_report import MultiLabelRobustnessReport
from kdcam.evaluation.robustness.out_of_distribution import OutOfDistributionReport
from kdcam.evaluation.robustness.relative_errors import RelativeErrors
from kdcam.scores.calibration import CalibrationReport


class CorruptionSection(BaseModel):
    """Accuracy under corruptions, and errors as multiples of a base run's."""

    model_config = ConfigDict(frozen=True)

    report: CorruptionReport
    base: str | None = None  # the base run
    relative: RelativeErrors | None = None


class ForeignDataSection(BaseModel):
    """How well a run tells its own test images from others."""

    model_config = ConfigDict(frozen=True)

    data: str  # as it was named
    report: OutOfDistributionReport


class RunRobustness(BaseModel):
    """How robust one run is: what robustness.json holds, or what one command asked for. Other sections are None."""

    model_config = ConfigDict(frozen=True)

    run: Path
    network: str  # digest of the weights and data that all sections are of
    keys: dict[str, str]  # of each section, the digest of all that decides its numbers
    weights: str
    settings: dict[str, dict[str, Any]]  # of each section, those that it was made with
    attacks: RobustnessReport | MultiLabelRobustnessReport | None
    checks: tuple[MaskingCheck, ...]
    corruptions: CorruptionSection | None
    corrupted_set: CorruptionSection | None
    calibration: CalibrationReport | None
    out_of_distribution: ForeignDataSection | None
    label_noise: LabelNoiseReport | None

    @property
    def memorisation(self) -> Memorisation | None:
        """What became of wrong training labels; None: it was trained without any."""
        return None if self.label_noise is None else self.label_noise.memorisation

    @property
    def failed_checks(self) -> tuple[MaskingCheck, ...]:
        """The checks that are not as they should be: the accuracies under attack may mean nothing."""
        return failed_checks(self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return everything in a form that JSON takes."""
        return {**self.model_dump(mode="json"), "warning": MASKING_WARNING if self.failed_checks else None}


__all__ = ["CorruptionSection", "ForeignDataSection", "RunRobustness"]
