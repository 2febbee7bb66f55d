"""evaluate_robustness: attacks on the test part of runs, and how much label noise they memorised."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdcam.api import LoadedRun, Weights, load_run, recipe_of
from kdcam.json_files import write_json
from kdcam.noise_file import NOISE_FILE, read_noise
from kdcam.progress import Progress, Silent
from kdcam.robustness.config import RobustnessSettings, robustness_settings
from kdcam.robustness.evaluate import RobustnessReport, attack_report
from kdcam.robustness.memorisation import Memorisation, memorisation
from kdcam.robustness.multi_label import MultiLabelRobustnessReport, multi_label_attack_report

ROBUSTNESS_FILE = "robustness.json"


class RunRobustness(NamedTuple):
    """How robust one run is."""

    run: Path
    report: RobustnessReport | MultiLabelRobustnessReport
    memorisation: (
        Memorisation | None
    )  # None: it was trained without label noise, or on several labels an image

    def to_json(self) -> dict[str, Any]:
        """Return everything in a form that JSON takes."""
        memorised = None if self.memorisation is None else self.memorisation.model_dump(mode="json")
        return {"run": str(self.run), **self.report.to_json(), "label_noise": memorised}


def evaluate_robustness(
    runs: Sequence[str | Path],
    *,
    settings: Mapping[str, Any] | None = None,
    weights: Weights = "selected",
    batch_size: int = 100,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[RunRobustness]:
    """Return how robust runs are, in the order given, and write robustness.json into each run's folder.

    A run with several labels an image gets a `MultiLabelRobustnessReport`.

    Args:
        runs: Run folders.
        settings: Keys of `RobustnessSettings`: attacks, norm, eps, alpha, steps, restarts, seed, n_examples.
            Without any: fgsm and pgd-10, L-inf, eps 8/255, alpha 2/255, on the first 1,000 images of the test part.
        weights: Which epoch's weights of each run.
        batch_size: Images attacked at once; the result does not depend on it.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        progress: Who watches.

    Raises:
        RecipeError: A setting is wrong.
        CheckpointError: A folder holds no run, or robustness.json cannot be written.
        DataError: A run's data cannot be read any more or has no test part.
    """
    watcher = progress or Silent()
    checked = robustness_settings(settings or {})
    for path in runs:
        recipe_of(Path(path))  # a wrong last one is refused before the first one is attacked
    found = []
    for path in runs:
        loaded = load_run(path, weights=weights, device=device, progress=watcher)
        watcher.message(f"{loaded.path}: {', '.join(config.label for config in checked.configs())}")
        result = _of_run(loaded, checked, batch_size=batch_size, progress=watcher)
        write_json(loaded.path / ROBUSTNESS_FILE, {**result.to_json(), "weights": weights})
        found.append(result)
    return found


def _of_run(
    loaded: LoadedRun, settings: RobustnessSettings, *, batch_size: int, progress: Progress
) -> RunRobustness:
    test = loaded.batches(loaded.part("test"), batch_size=batch_size)
    report_of = multi_label_attack_report if loaded.recipe.task == "multi-label" else attack_report
    report: RobustnessReport | MultiLabelRobustnessReport = report_of(
        loaded.classifier, test, settings.configs(), n_examples=settings.n_examples, progress=progress
    )
    if not (loaded.path / NOISE_FILE).exists():
        return RunRobustness(loaded.path, report, None)
    clean, noisy = read_noise(loaded.path)
    train = loaded.batches(loaded.parts.train)
    return RunRobustness(
        loaded.path, report, memorisation(loaded.classifier, train, clean, noisy, progress=progress)
    )


__all__ = ["ROBUSTNESS_FILE", "RunRobustness", "evaluate_robustness"]
