"""robustness.json: the sections found of one run's weights, each under the key of all that decides its numbers."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from kdcam.api import Weights
from kdcam.json_files import read_json, write_json
from kdcam.progress import Progress
from kdcam.robustness.run_robustness import RunRobustness
from kdcam.robustness.settings import EvaluationSettings
from kdcam.wording import listed

ROBUSTNESS_FILE = "robustness.json"

_EMPTY: dict[str, Any] = {
    "attacks": None,
    "checks": (),
    "corruptions": None,
    "corrupted_set": None,
    "calibration": None,
    "out_of_distribution": None,
    "label_noise": None,
}
_KINDS = {section: kind for section, kind in get_type_hints(RunRobustness).items() if section in _EMPTY}
# The settings that a section which stays in the file brings along.
_SETTINGS_OF = {
    "attacks": ("attack", "budgets", "from_zero", "source"),
    "checks": ("checks",),
    "corruptions": ("corruptions", "severities", "base"),
    "corrupted_set": ("corrupted_set",),
    "calibration": ("calibration",),
    "out_of_distribution": ("ood",),
}


class ResultsFile:
    """The file of one run: sections of the same weights stay in it until they are found anew."""

    def __init__(
        self,
        folder: Path,
        *,
        network: str,
        weights: Weights,
        settings: EvaluationSettings,
        progress: Progress,
    ) -> None:
        """Read what there is.

        What is of other weights, or not as kdcam writes it, is told of and left aside; the file that holds it is
        written over with the first new section. Raises ``CheckpointError`` for a file that is no JSON object.
        """
        self._folder, self._network, self._weights = folder, network, weights
        self._asked = settings.model_dump(mode="json")
        self._left: dict[str, Any] = {}  # settings of sections that this command does not ask for
        self._sections = dict(_EMPTY)
        self._keys: dict[str, str] = {}
        path = folder / ROBUSTNESS_FILE
        if path.exists():
            self._read(path, read_json(path), settings.sections, progress)

    def _read(self, path: Path, document: dict[str, Any], asked: Sequence[str], progress: Progress) -> None:
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
            except (KeyError, ValueError):  # pydantic's ValidationError is a ValueError
                progress.message(f"{path}: its {section} are not as kdcam writes them and are not taken over")
                continue
            self._sections[section] = value
            self._keys[section] = key
            if section not in asked:
                self._left |= {
                    name: settings[name] for name in _SETTINGS_OF.get(section, ()) if name in settings
                }

    def has(self, section: str, key: str) -> bool:
        """Return whether a section is there, found under this key."""
        return self._keys.get(section) == key

    def put(self, section: str, key: str, value: Any) -> None:
        """Take a section and write the file; ``CheckpointError`` where that cannot be. None: there is none."""
        self._sections[section] = _EMPTY[section] if value is None else value
        self._keys[section] = key
        write_json(self._folder / ROBUSTNESS_FILE, self.whole.to_json())

    def drop(self, section: str) -> None:
        """Leave a section out from the next writing on."""
        self._sections[section] = _EMPTY[section]
        self._keys.pop(section, None)

    @property
    def whole(self) -> RunRobustness:
        """All sections."""
        return self._of(_EMPTY, self._asked | self._left)

    def of(self, sections: Iterable[str]) -> RunRobustness:
        """Return some sections alone."""
        return self._of(sections, self._asked)

    def _of(self, sections: Iterable[str], settings: dict[str, Any]) -> RunRobustness:
        wanted = set(sections)
        found = {name: self._sections[name] if name in wanted else none for name, none in _EMPTY.items()}
        return RunRobustness(
            run=self._folder,
            network=self._network,
            keys={section: key for section, key in self._keys.items() if section in wanted},
            weights=self._weights,
            settings=settings,
            **found,
        )


__all__ = ["ROBUSTNESS_FILE", "ResultsFile"]
