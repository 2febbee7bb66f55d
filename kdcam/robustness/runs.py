"""evaluate_robustness: attacks, corruptions, calibration and label noise of runs, in one resumable piece of work."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from kdcam.api import LoadedRun, Weights, load_run, recipe_of
from kdcam.errors import RecipeError
from kdcam.json_files import read_json, write_json
from kdcam.models.classifier import Classifier
from kdcam.noise_file import NOISE_FILE, read_noise
from kdcam.progress import Progress, Silent
from kdcam.recipe import TrainRecipe
from kdcam.robustness.config import check_attacks
from kdcam.robustness.memorisation import label_noise_report
from kdcam.robustness.pieces import Source
from kdcam.robustness.progress_file import PROGRESS_FILE, Work, combined_digest
from kdcam.robustness.run_robustness import RunRobustness
from kdcam.robustness.sections import Evaluation, check_inputs, run_sections
from kdcam.robustness.settings import EvaluationSettings, evaluation_settings
from kdcam.robustness.transfer import check_source, check_transferable, open_source
from kdcam.run_state import RESULT_FILE, Resume
from kdcam.stored_model import read_config
from kdcam.teacher_cache.fingerprints import images_digest, targets_digest, weights_digest
from kdcam.wording import listed

ROBUSTNESS_FILE = "robustness.json"
PROTOCOL = 2  # of the numbers; another number is another way to come by them, and nothing kept is taken over


class _Plan(NamedTuple):
    """What is done to every run, and how."""

    settings: EvaluationSettings
    weights: Weights
    batch_size: int
    resume: Resume
    progress: Progress


class _Others(NamedTuple):
    """The runs that the evaluated ones are held against."""

    source: Source | None
    base: Source | None


def evaluate_robustness(
    runs: Sequence[str | Path],
    *,
    settings: Mapping[str, Any] | EvaluationSettings | None = None,
    weights: Weights = "selected",
    batch_size: int = 100,
    device: str = "auto",
    resume: Resume = "auto",
    draw: bool = False,
    figures: str | Path | None = None,
    progress: Progress | None = None,
) -> list[RunRobustness]:
    """Return how robust runs are, in the order given, and write robustness.json into each run's folder.

    A run with several labels an image gets a `MultiLabelRobustnessReport`. What has been found is kept in the
    run's folder after each batch of attacks, so that the same call goes on after a kill; a run that has been
    evaluated just so, on the same weights and images, is not evaluated again.

    Args:
        runs: Run folders.
        settings: Keys as `evaluation_settings` takes them: attacks, norm, eps (one or several), alpha, steps,
            restarts, seed, n_examples; checks, source, corruptions, severities, corrupted_set, calibration, ood,
            base. Without any: fgsm and pgd-10, L-inf, eps 8/255, alpha 2/255, on the first 1,000 images of the test
            part, with the checks.
        weights: Which epoch's weights of each run.
        batch_size: Images attacked at once; the result does not depend on it.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        resume: "never": what was found before is not taken over.
        draw: Whether pictures go into each run's figures/.
        figures: A folder for the pictures that show all runs together; None: none are drawn.
        progress: Who watches.

    Raises:
        RecipeError: A setting is wrong, or does not go with a run.
        CheckpointError: A folder holds no run, or robustness.json cannot be written.
        DataError: A run's data cannot be read any more or has no test part.
        Interrupted: The watcher asked to stop; what was found is kept.
    """
    watcher = progress or Silent()
    checked = _checked(runs, settings)
    others = _Others(*(_opened(path, weights, device) for path in (checked.source, checked.base)))
    plan = _Plan(checked, weights, batch_size, resume, watcher)
    found = []
    for path in runs:
        loaded = load_run(path, weights=weights, device=device, progress=watcher)
        found.append(_evaluated(loaded, plan, others))
        if draw:
            from kdcam.robustness.run_figures import draw_run

            draw_run(loaded, found[-1], checked)
    found = _with_point_at_zero(found)
    if figures is not None:
        from kdcam.robustness.run_figures import draw_together

        draw_together(found, Path(figures))
    return found


def _checked(
    runs: Sequence[str | Path], settings: Mapping[str, Any] | EvaluationSettings | None
) -> EvaluationSettings:
    """Return the settings; a wrong last run is refused before the first one is attacked."""
    checked = settings if isinstance(settings, EvaluationSettings) else evaluation_settings(settings or {})
    if checked.source is not None:
        check_transferable([config for budget in checked.budgets for config in budget.configs()])
    for path in runs:
        _check_fits(Path(path), recipe_of(Path(path)), checked)
    return checked


def _with_point_at_zero(found: list[RunRobustness]) -> list[RunRobustness]:
    """Return runs of which some saw label noise with what the others, finished and of single labels, scored without."""
    if all(run.label_noise is None for run in found):
        return found
    return [
        run.model_copy(update={"label_noise": label_noise_report(run.run)}) if _is_point_at_zero(run) else run
        for run in found
    ]


def _is_point_at_zero(run: RunRobustness) -> bool:
    single = recipe_of(run.run).task == "single-label"
    noisy = (run.run / NOISE_FILE).exists()
    return single and not noisy and (run.run / RESULT_FILE).exists()


def _check_fits(path: Path, recipe: TrainRecipe, settings: EvaluationSettings) -> None:
    """Raise ``RecipeError`` where a setting cannot be of a run."""
    several = recipe.task == "multi-label"
    if settings.attack:
        attacks = [config for budget in settings.budgets for config in budget.configs()]
        check_attacks(attacks, num_classes=read_config(path).num_classes, multi_label=several)
    wanted = {
        "corruptions": settings.corruptions,
        "corrupted_set": settings.corrupted_set,
        "calibration": settings.calibration,
        "ood": settings.ood,
    }
    asked = [key for key, value in wanted.items() if value]
    if several and asked:
        raise RecipeError(
            f"{asked[0]}: needs one label an image, and {path} has several; leave {listed(asked)} out for it"
        )


def _opened(path: Path | None, weights: Weights, device: str) -> Source | None:
    return None if path is None else open_source(path, weights=weights, device=device)


def _evaluated(loaded: LoadedRun, plan: _Plan, others: _Others) -> RunRobustness:
    """Return a run's robustness: what robustness.json holds, if it was found just so, else found anew or to the end."""
    for other in others:
        if other is not None:
            check_source(other, loaded)
    key = _key(loaded, plan, others)
    work = Work(loaded.path, key=key, fresh=plan.resume == "never")
    # Work under way is newer than a result of the same key: someone started over.
    kept = _kept(loaded.path, key) if plan.resume == "auto" and not work.resumed else None
    if kept is not None:
        plan.progress.message(f"{loaded.path}: evaluated just so before, {ROBUSTNESS_FILE} is taken as it is")
        return kept
    plan.progress.message(
        f"{loaded.path}: {_summary(plan.settings)}"
        + (f"; goes on from {PROGRESS_FILE}" if work.resumed else "")
    )
    one = Evaluation(
        loaded,
        plan.settings,
        plan.batch_size,
        work,
        plan.progress,
        source=others.source,
        base=others.base,
    )
    check_inputs(one)
    result = run_sections(one, key=key, weights=plan.weights)
    write_json(loaded.path / ROBUSTNESS_FILE, result.to_json())
    work.finish()
    return result


def _key(loaded: LoadedRun, plan: _Plan, others: _Others) -> str:
    """Return the digest of all that decides a run's numbers."""
    test = loaded.part("test")
    first = torch.arange(min(plan.settings.n_examples, len(test)))
    noise = loaded.path / NOISE_FILE
    return combined_digest(
        {
            "protocol": PROTOCOL,
            "version": version("kdcam"),
            "which": plan.weights,
            "weights": _identity(loaded.classifier),
            "others": [None if other is None else _identity(other.classifier) for other in others],
            "settings": plan.settings.model_dump(mode="json"),
            "data": loaded.recipe.data.model_dump(mode="json"),
            "images": len(test),
            "first": images_digest(test.images.subset(first), progress=plan.progress).sha256,
            "targets": targets_digest(test.targets),
            "noise": targets_digest(torch.stack(read_noise(loaded.path))) if noise.exists() else None,
            "finished": (loaded.path / RESULT_FILE).exists(),
        }
    )


def _identity(classifier: nn.Module) -> str:
    # In evaluation every other thing about a network (its normalisation, its head) follows from its settings.
    assert isinstance(classifier, Classifier)
    return f"{classifier.config.model_dump_json()} {classifier.preprocessing} {weights_digest(classifier.network)}"


def _kept(folder: Path, key: str) -> RunRobustness | None:
    """Return what robustness.json holds, where it was found under the same key."""
    path = folder / ROBUSTNESS_FILE
    if not path.exists():
        return None
    document = read_json(path)
    if document.pop("key", None) != key:
        return None
    document.pop("warning", None)
    # The folder may have been moved since.
    return RunRobustness.model_validate({**document, "key": key, "run": folder})


def _summary(settings: EvaluationSettings) -> str:
    parts = []
    if settings.attack:
        labels = listed(config.label for config in settings.budgets[0].configs())
        budgets = listed(f"{budget.eps:.3g}" for budget in settings.budgets)
        parts.append(f"{labels} at {settings.budgets[0].norm} eps {budgets}")
    if settings.corruptions:
        parts.append(f"corruptions {listed(settings.corruptions)}")
    parts += [
        key.replace("_", " ") for key in ("corrupted_set", "calibration", "ood") if getattr(settings, key)
    ]
    return "; ".join(parts) or "label noise"


__all__ = ["PROTOCOL", "ROBUSTNESS_FILE", "RunRobustness", "evaluate_robustness"]
