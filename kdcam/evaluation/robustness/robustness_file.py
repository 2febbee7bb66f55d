"""robustness.json: what is known of one run's robustness, each section under the key of all that decides it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter

from kdcam.evaluation.robustness.attack_report import RobustnessReport
from kdcam.evaluation.robustness.corruption_report import CorruptionReport, RelativeErrors
from kdcam.evaluation.robustness.gradient_masking_check import MASKING_WARNING, MaskingCheck, failed_checks
from kdcam.evaluation.robustness.memorisation import LabelNoiseReport, Memorisation
from kdcam.evaluation.robustness.multi_label_attack_report import MultiLabelRobustnessReport
from kdcam.evaluation.robustness.out_of_distribution import OutOfDistributionReport
from kdcam.evaluation.robustness.partial_results import write_errors_explained
from kdcam.evaluation.robustness.robustness_settings import RobustnessEvaluationSettings
from kdcam.files.json_files import read_json, write_json
from kdcam.files.paths import exists
from kdcam.runs.open_run import Weights
from kdcam.runs.run_files import ROBUSTNESS_FILE
from kdcam.runtime.progress import Progress
from kdcam.scores.calibration import CalibrationReport
from kdcam.settings.messages import listed


class CorruptionSection(BaseModel, frozen=True):
    """Accuracy under corruptions, and errors as multiples of a base run's."""

    report: CorruptionReport
    base: str | None = None  # the base run
    relative: RelativeErrors | None = None


class ForeignDataSection(BaseModel, frozen=True):
    """How well a run tells its own test images from others."""

    data: str  # as it was named
    report: OutOfDistributionReport


class RunRobustness(BaseModel, frozen=True):
    """How robust one run is: what robustness.json holds, or what one command asked for. Other sections are None."""

    run: Path
    network: str  # digest of the weights and data that all sections are of
    keys: dict[str, str]  # of each section, the digest of all that decides its numbers
    weights: str
    settings: dict[str, dict[str, Any]]  # of each section, those that it was made with
    attacks: RobustnessReport | MultiLabelRobustnessReport | None = None
    checks: tuple[MaskingCheck, ...] = ()
    corruptions: CorruptionSection | None = None
    corrupted_set: CorruptionSection | None = None
    calibration: CalibrationReport | None = None
    out_of_distribution: ForeignDataSection | None = None
    label_noise: LabelNoiseReport | None = None

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


# The settings that each section is made with, as `RobustnessEvaluationSettings` names them.
_SETTINGS_OF: dict[str, tuple[str, ...]] = {
    "attacks": ("budgets", "from_zero", "source"),
    "checks": ("budgets", "source"),
    "corruptions": ("corruptions", "severities", "n_examples", "seed", "base"),
    "corrupted_set": ("corrupted_set", "severities", "n_examples", "base"),
    "calibration": (),
    "out_of_distribution": ("ood",),
    "label_noise": (),
}
_KINDS = {section: get_type_hints(RunRobustness)[section] for section in _SETTINGS_OF}
_EMPTY: dict[str, Any] = {section: RunRobustness.model_fields[section].default for section in _SETTINGS_OF}


class RobustnessFile:
    """The file of one run: sections of the same weights stay in it until they are found anew."""

    def __init__(
        self,
        folder: Path,
        *,
        network: str,
        weights: Weights,
        settings: RobustnessEvaluationSettings,
        progress: Progress,
    ) -> None:
        """Read what there is.

        What is of other weights, or not as kdcam writes it, is reported and left aside; the file that holds it is
        written over with the first new section. Raises ``CheckpointError`` for a file that is no JSON object.
        """
        self._folder, self._network, self._weights = folder, network, weights
        self._asked = _by_section(settings)
        self._sections = dict(_EMPTY)
        self._keys: dict[str, str] = {}
        self._settings: dict[str, dict[str, Any]] = {}  # of each section, those that it was made with
        path = folder / ROBUSTNESS_FILE
        if exists(path):
            self._read(path, read_json(path), progress)

    def _read(self, path: Path, document: dict[str, Any], progress: Progress) -> None:
        keys, settings = document.get("keys"), document.get("settings")
        there = listed(section for section in _EMPTY if document.get(section))
        if not isinstance(keys, dict) or not isinstance(settings, dict):
            progress.message(f"{path}: of an earlier kdcam; {there} in it are not taken over")
            return
        if document.get("network") != self._network:
            progress.message(f"{path}: of other weights, data or kdcam; {there} in it are not taken over")
            return
        for section, key in keys.items():
            try:
                value = TypeAdapter[Any](_KINDS[section]).validate_python(document[section])
                made_with = dict(settings[section])
            except (KeyError, TypeError, ValueError):  # pydantic's ValidationError is a ValueError
                progress.message(f"{path}: its {section} are not as kdcam writes them and are not taken over")
                continue
            self._sections[section], self._keys[section], self._settings[section] = value, key, made_with

    def has(self, section: str, key: str) -> bool:
        """Return whether a section is there, found under this key."""
        return self._keys.get(section) == key

    def put(self, section: str, key: str, value: Any) -> None:
        """Take a section and write the file; ``CheckpointError`` where that cannot be. None: there is none."""
        self._sections[section] = _EMPTY[section] if value is None else value
        self._keys[section] = key
        self.keep(section)
        file = self._folder / ROBUSTNESS_FILE
        with write_errors_explained(file):
            write_json(file, self.whole.to_json())

    def keep(self, section: str) -> None:
        """Take a section that is there as made with this command's settings: those that no number hangs on, too."""
        self._settings[section] = self._asked[section]

    def drop(self, section: str) -> None:
        """Leave a section out from the next writing on."""
        self._sections[section] = _EMPTY[section]
        self._keys.pop(section, None)
        self._settings.pop(section, None)

    @property
    def whole(self) -> RunRobustness:
        """All sections."""
        return self.of(_EMPTY)

    def of(self, sections: Iterable[str]) -> RunRobustness:
        """Return some sections alone."""
        wanted = set(sections)
        found = {name: self._sections[name] if name in wanted else none for name, none in _EMPTY.items()}
        return RunRobustness(
            run=self._folder,
            network=self._network,
            keys={section: key for section, key in self._keys.items() if section in wanted},
            weights=self._weights,
            settings={section: made for section, made in self._settings.items() if section in wanted},
            **found,
        )


def _by_section(settings: RobustnessEvaluationSettings) -> dict[str, dict[str, Any]]:
    """Return for each section the settings that it would be made with."""
    asked = settings.model_dump(mode="json") | {"n_examples": settings.n_examples, "seed": settings.seed}
    return {section: {name: asked[name] for name in names} for section, names in _SETTINGS_OF.items()}


__all__ = [
    "CorruptionSection",
    "ForeignDataSection",
    "RobustnessFile",
    "RunRobustness",
]
