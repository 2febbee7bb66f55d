"""evaluate_robustness: attacks, corruptions, calibration and label noise of runs, resumable."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kdcam.attacks.attack_settings import check_attacks
from kdcam.errors import CheckpointError, FolderInUseError, ModelError, RecipeError
from kdcam.evaluation.robustness.memorisation import label_noise_report
from kdcam.evaluation.robustness.partial_results import (
    remove_orphaned_tensors,
    stop_with_results_kept,
    write_errors_explained,
)
from kdcam.evaluation.robustness.reference_runs import (
    ReferenceNetwork,
    ReferenceNetworks,
    ReferenceRole,
    check_reference,
    check_transferable,
    open_reference,
    warn_of_other_data,
)
from kdcam.evaluation.robustness.robustness_figures import draw_run, draw_together
from kdcam.evaluation.robustness.robustness_file import RobustnessFile, RunRobustness
from kdcam.evaluation.robustness.robustness_sections import SectionContext, check_inputs, run_sections
from kdcam.evaluation.robustness.robustness_settings import (
    RobustnessEvaluationSettings,
    robustness_evaluation_settings,
)
from kdcam.evaluation.robustness.section_keys import asked_sections, network_key, section_keys
from kdcam.files.atomic_writes import remove_leftovers
from kdcam.files.folder_lock import FolderLock
from kdcam.files.paths import exists
from kdcam.models.weights.config_json import read_config
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runs.open_run import LoadedRun, Weights, load_run, recipe_of
from kdcam.runs.run_files import NOISE_FILE, RESULT_FILE, Resume
from kdcam.runtime.progress import Progress, Silent
from kdcam.settings.messages import listed


class _EvaluationPlan(NamedTuple):
    """What is done to every run, and how."""

    settings: RobustnessEvaluationSettings
    weights: Weights
    batch_size: int
    resume: Resume
    draw: bool
    data: Mapping[str, Any] | None
    rest: bool
    progress: Progress


# What runs on which images, and what is kept: docs/decisions/017.
def evaluate_robustness(
    runs: Sequence[str | Path],
    *,
    settings: Mapping[str, Any] | RobustnessEvaluationSettings | None = None,
    weights: Weights = "selected",
    batch_size: int = 100,
    device: str = "auto",
    resume: Resume = "auto",
    draw: bool = False,
    figures: str | Path | None = None,
    data: Mapping[str, Any] | None = None,
    rest: bool = False,
    progress: Progress | None = None,
) -> list[RunRobustness]:
    """Return how robust runs are, in the order given, and write robustness.json into each run's folder.

    A run with several labels an image gets a `MultiLabelRobustnessReport`. What has been found is kept in the
    run's folder after each batch of attacks, so that the same call goes on after a kill. A section (attacks, checks,
    corruptions ...) that was found just so, with the same weights, images and settings, is not found again; in the
    file it stands beside those of other calls on the same weights, the returned value has what this call asks for.

    Args:
        runs: Run folders.
        settings: Keys as `robustness_evaluation_settings` takes them: attacks, norm, eps (one or several), alpha,
            steps, restarts, seed, n_examples; checks, source, corruptions, severities, corrupted_set, calibration, ood,
            base. Without any: fgsm and pgd-10, L-inf, eps 8/255, alpha 2/255, on the first 1,000 images of the test
            part, with the checks. Where the first images do not show all classes, some are drawn from each.
        weights: Which epoch's weights of each run.
        batch_size: Images attacked at once; the result does not depend on it.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        resume: "never": what was found before is not taken over.
        draw: Whether pictures go into each run's figures/.
        figures: A folder for the pictures that show all runs together; None: none are drawn.
        data: Keys of [data] that say where the files of the runs' data lie now; see `kdcam.runs.open_run.load_run`.
        rest: Where pictures of a run are gone or changed, those that are left are taken; else it is refused.
        progress: Who watches.

    Raises:
        RecipeError: A setting is wrong, or does not go with a run.
        CheckpointError: A folder holds no run or is written to by another process, or robustness.json cannot be
            read or written.
        DataError: A run's data cannot be read any more or has no test part.
        Interrupted: The watcher asked to stop; what was found is kept.
    """
    watcher = progress or Silent()
    checked = _checked_settings(runs, settings)
    references = ReferenceNetworks(
        _open_reference(checked.source, "source", weights, device),
        _open_reference(checked.base, "base", weights, device),
    )
    plan = _EvaluationPlan(checked, weights, batch_size, resume, draw, data, rest, watcher)
    opened = _open_runs(runs, plan, references, device)
    found = []
    for loaded in opened:
        stop_with_results_kept(watcher)
        with _locked(loaded.path) as refused:
            found.append(_evaluate_run(loaded, plan, references, refused))
    found = _with_point_at_zero(found, watcher)
    if figures is not None:
        draw_together(found, Path(figures), progress=watcher)
    return found


def _open_runs(
    runs: Sequence[str | Path], plan: _EvaluationPlan, references: ReferenceNetworks, device: str
) -> list[LoadedRun]:
    """Return all runs, checked: a wrong last one is refused before the first is attacked."""
    opened, read = list[LoadedRun](), dict[str, LoadedRun]()
    for path in runs:
        loaded = load_run(
            path,
            weights=plan.weights,
            device=device,
            data=plan.data,
            rest=plan.rest,
            progress=plan.progress,
        )
        # Runs on the same pictures share what was read of them.
        same = f"{loaded.recipe.data.model_dump_json()} {loaded.pictures}"
        loaded = loaded.with_parts_of(read.setdefault(same, loaded))
        roles: tuple[tuple[ReferenceRole, ReferenceNetwork | None], ...] = (
            ("source", references.source),
            ("base", references.base),
        )
        for role, other in roles:
            if other is not None:
                check_reference(other, loaded, role=role)
                warn_of_other_data(other, loaded, role=role, progress=plan.progress)
        check_inputs(loaded, plan.settings)
        opened.append(loaded)
    return opened


@contextmanager
def _locked(folder: Path) -> Iterator[CheckpointError | None]:
    """Hold a run's folder alone; what killed processes left in it is removed.

    Yield why nothing can be written there: what robustness.json holds can still be shown. ``FolderInUseError`` where
    another process holds the folder.
    """
    try:
        with write_errors_explained(folder):
            lock = FolderLock(folder)
    except FolderInUseError:
        raise
    except CheckpointError as error:
        lock, refused = None, error
    if lock is None:
        yield refused
        return
    try:
        remove_leftovers(folder)
        remove_orphaned_tensors(folder)
        yield None
    finally:
        lock.release()


def _checked_settings(
    runs: Sequence[str | Path], settings: Mapping[str, Any] | RobustnessEvaluationSettings | None
) -> RobustnessEvaluationSettings:
    """Return the settings; a wrong last run is refused before the first one is attacked."""
    checked = (
        settings
        if isinstance(settings, RobustnessEvaluationSettings)
        else robustness_evaluation_settings(settings or {})
    )
    if checked.source is not None:
        check_transferable(checked.attack_configs)
    for path in runs:
        _check_fits(Path(path), recipe_of(Path(path)), checked)
    if not checked.sections and not any(exists(Path(path) / NOISE_FILE) for path in runs):
        raise RecipeError(
            f"attacks: none leaves nothing to do, since {listed(runs)} saw no label noise; add --corruptions, "
            "--corrupted-set, --calibration or --ood, or name some attacks"
        )
    return checked


def _with_point_at_zero(found: list[RunRobustness], progress: Progress) -> list[RunRobustness]:
    """Return runs of which some saw label noise with what the others, finished and of single labels, scored without."""
    if all(run.label_noise is None for run in found):
        return found
    return [_with_scores(run, progress) if _is_point_at_zero(run) else run for run in found]


def _with_scores(run: RunRobustness, progress: Progress) -> RunRobustness:
    try:
        return run.model_copy(update={"label_noise": label_noise_report(run.run)})
    except CheckpointError as error:  # no reason to lose what was found
        progress.warning(f"{run.run}: is left out beside the runs with label noise: {error}")
        return run


def _is_point_at_zero(run: RunRobustness) -> bool:
    single = recipe_of(run.run).task == "single-label"
    noisy = exists(run.run / NOISE_FILE)
    return single and not noisy and exists(run.run / RESULT_FILE)


def _check_fits(path: Path, recipe: TrainRecipe, settings: RobustnessEvaluationSettings) -> None:
    """Raise ``RecipeError`` where a setting cannot be of a run."""
    several = recipe.task == "multi-label"
    if settings.attack:
        classes = read_config(path).num_classes
        check_attacks(settings.attack_configs, num_classes=classes, multi_label=several)
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


def _open_reference(
    path: Path | None, role: ReferenceRole, weights: Weights, device: str
) -> ReferenceNetwork | None:
    return None if path is None else open_reference(path, role=role, weights=weights, device=device)


def _evaluate_run(
    loaded: LoadedRun, plan: _EvaluationPlan, references: ReferenceNetworks, refused: CheckpointError | None
) -> RunRobustness:
    """Return a run's sections: those that robustness.json holds if found just so, others found now or to the end."""
    network = network_key(loaded, plan.weights)
    keys = section_keys(
        loaded,
        plan.settings,
        references,
        network=network,
        batch_size=plan.batch_size,
        progress=plan.progress,
    )
    file = RobustnessFile(
        loaded.path, network=network, weights=plan.weights, settings=plan.settings, progress=plan.progress
    )
    fresh = plan.resume == "never"
    context = SectionContext(
        loaded, plan.settings, plan.batch_size, plan.progress, references, fresh, refused
    )
    try:
        run_sections(context, file, keys)
    except ModelError as error:
        source = "" if references.source is None else f" with source {references.source.name}"
        raise ModelError(f"{loaded.path}{source}: {error}") from error
    if plan.draw and refused is None:
        draw_run(loaded, file.whole, batch_size=plan.batch_size, progress=plan.progress)
    return file.of(asked_sections(loaded.path, plan.settings))


__all__ = ["evaluate_robustness"]
