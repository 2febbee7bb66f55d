"""The table of a comparison: what its runs and their later evaluations came to, over seeds."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from kdcam.comparison.plan.comparison_plan import Cell, ComparisonPlan, PlannedRow, have_same_data
from kdcam.comparison.table.comparison_result import ComparedRow, EvaluationScore, FailedRun, count_epochs
from kdcam.comparison.table.run_measures import (
    EVALUATION_KINDS,
    AgreementScores,
    EpisodeAccuracies,
    RunMeasures,
)
from kdcam.comparison.table.text_formats import Comparison
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.scores.intervals import (
    PairedDifference,
    Summary,
    episode_difference,
    mean_and_deviation,
    paired_seed_difference,
)
from kdcam.scores.main_scores import MAIN_SCORES

RunsBySeed = Mapping[int, RunMeasures]
RunsByRow = Mapping[str, RunsBySeed]  # by the row's name


def build_comparison(
    plan: ComparisonPlan,
    runs: Mapping[str, RunMeasures],
    failed: Mapping[str, str],
    *,
    command: Sequence[str] = (),
) -> Comparison:
    """Return the comparison of a plan's finished runs.

    Args:
        plan: What was wanted.
        runs: Finished runs by their cells' names.
        failed: The reason of each failed one by its cell's name.
        command: The command line, for the record.
    """
    cells = plan.cells()
    by_row = {row.name: _runs_of(row, cells, runs) for row in plan.rows}
    finished = [runs[cell.name] for cell in cells if cell.name in runs]
    part = "test" if any(run.selected.test is not None for run in finished) or not finished else "validation"
    base = _base_row(plan.rows[0], by_row[plan.rows[0].name], part)
    evaluated = summarise_evaluations(
        by_row,
        base=base.name,
        same_data=frozenset(row.name for row in plan.rows if have_same_data(row.recipe, base.recipe)),
    )
    return Comparison(
        score=MAIN_SCORES[plan.rows[0].recipe.task],
        part=part,
        base=base.name,
        seeds=plan.seeds,
        sets=plan.sets,
        level=base.level,
        rows=tuple(_compared_row(row, by_row[row.name], base, evaluated.rows[row.name]) for row in plan.rows),
        failed=tuple(
            FailedRun(cell.name, cell.row.name, cell.seed, failed[cell.name])
            for cell in cells
            if cell.name in failed
        ),
        missing=tuple(cell.name for cell in cells if cell.name not in runs and cell.name not in failed),
        machines=_different([run.machine for run in finished]),
        versions=_versions(finished),
        command=tuple(command),
        left_out=evaluated.left_out,
    )


def _runs_of(row: PlannedRow, cells: Sequence[Cell], runs: Mapping[str, RunMeasures]) -> RunsBySeed:
    own = [cell for cell in cells if cell.row.name == row.name]
    return {cell.seed: runs[cell.name] for cell in own if cell.name in runs}


class _BaseRow(NamedTuple):
    """What the other rows are held against."""

    name: str
    recipe: TrainRecipe
    part: str  # whose selected scores are subtracted
    scores: Mapping[int, float]  # those, by seed
    level: float | None  # of the validation score


def _base_row(row: PlannedRow, runs: RunsBySeed, part: str) -> _BaseRow:
    last = _summary(runs, lambda run: run.last.validation)
    return _BaseRow(
        row.name, row.recipe, part, _selected_scores(runs, part), None if last is None else last.mean
    )


def _compared_row(
    row: PlannedRow, runs: RunsBySeed, base: _BaseRow, evaluations: Mapping[str, EvaluationScore]
) -> ComparedRow:
    any_run = next(iter(runs.values()), None)
    same_data = have_same_data(row.recipe, base.recipe)
    differs = same_data and row.name != base.name
    level = base.level if same_data else None
    teacher = None if row.teacher is None else row.teacher.checkpoint
    return ComparedRow(
        name=row.name,
        folder=row.folder,
        source=row.source,
        method=row.method,
        settings=row.settings,
        teachers=tuple(teacher.checkpoint for teacher in row.recipe.teachers),
        agreement_teacher=teacher,
        seeds=tuple(runs),
        selection=row.recipe.select,
        test_selected=_summary(runs, lambda run: run.selected.test),
        test_last=_summary(runs, lambda run: run.last.test),
        validation_selected=_summary(runs, lambda run: run.selected.validation),
        validation_last=_summary(runs, lambda run: run.last.validation),
        same_data=same_data,
        difference=paired_seed_difference(_selected_scores(runs, base.part), base.scores)
        if differs
        else None,
        best_epoch=_summary(runs, lambda run: run.best_epoch),
        **_agreement(runs, teacher),
        epochs_to_base=None if level is None else count_epochs([run.curve for run in runs.values()], level),
        images_per_second=_summary(runs, lambda run: run.images_per_second),
        seconds=_summary(runs, lambda run: run.seconds),
        parameters=None if any_run is None else any_run.parameters,
        published=None if row.published is None else row.published.model_dump(),
        curves={seed: run.curve for seed, run in runs.items() if run.curve},
        losses=tuple(loss.name for loss in row.recipe.loss),
        evaluations=evaluations,
        start=None if row.recipe.init is None else row.recipe.init.in_words(),
        solved=any(run.solved for run in runs.values()),
        test_by_seed=_test_scores(runs),
    )


def _test_scores(runs: RunsBySeed) -> dict[int, float]:
    """Return the test score of the selected epoch of each run that has one."""
    found = {seed: run.selected.test for seed, run in runs.items()}
    return {seed: score for seed, score in found.items() if score is not None}


def _selected_scores(runs: RunsBySeed, part: str) -> dict[int, float]:
    scores = {seed: getattr(run.selected, part) for seed, run in runs.items()}
    return {seed: score for seed, score in scores.items() if score is not None}


def _agreement(runs: RunsBySeed, teacher: str | None) -> dict[str, Summary | None]:
    """Return the summaries of agreement with the row's teacher; what was measured against another is left out."""
    scores = [
        run.agreement for run in runs.values() if run.agreement is not None and run.agreed_with == teacher
    ]
    columns: dict[str, Callable[[AgreementScores], float | None]] = {
        "agreement": lambda one: one.top1,
        "kl": lambda one: one.kl,
        "cam_similarity": lambda one: one.cam_similarity,
        "caam_cam_similarity": lambda one: one.caam_cam_similarity,
    }
    return {
        name: mean_and_deviation([value for one in scores if (value := pick(one)) is not None])
        for name, pick in columns.items()
    }


def _summary(runs: RunsBySeed, pick: Callable[[RunMeasures], float | None]) -> Summary | None:
    return mean_and_deviation([value for run in runs.values() if (value := pick(run)) is not None])


def _different(facts: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    return tuple({json.dumps(one, sort_keys=True): one for one in facts}.values())


def _versions(runs: Sequence[RunMeasures]) -> dict[str, tuple[str | None, ...]]:
    names = sorted({name for run in runs for name in run.versions})
    return {name: tuple(dict.fromkeys(run.versions.get(name) for run in runs)) for name in names}


class EvaluationSummaries(NamedTuple):
    """What the evaluations of all rows come to."""

    rows: Mapping[str, Mapping[str, EvaluationScore]]  # row -> "kind/name" -> its numbers
    left_out: tuple[str, ...]  # evaluations that are not among them, and why


def summarise_evaluations(rows: RunsByRow, *, base: str, same_data: frozenset[str]) -> EvaluationSummaries:
    """Return the numbers that all finished runs of at least one row have, and their differences to the base.

    Of one kind of evaluation only those runs count that were asked the same, as most of them were.

    Args:
        rows: the finished runs.
        base: the row that differences are to.
        same_data: rows of the base's data; an evaluation on a run's own data has no difference to the base for others.
    """
    found: dict[str, dict[str, EvaluationScore]] = {name: {} for name in rows}
    left_out = list(_unread_evaluations(rows))
    for kind in EVALUATION_KINDS:
        facts = _commonest_facts(rows, kind)
        left_out += _asked_otherwise(rows, kind, facts)
        values = {name: _evaluation_values(runs, kind, facts) for name, runs in rows.items()}
        for measure in _complete_measures(rows, values):
            theirs = values[base].get(measure, {})
            for name, by_measure in values.items():
                differs = name != base and (name in same_data or bool(EVALUATION_KINDS[kind].images))
                ours = by_measure.get(measure, {})
                score = _evaluation_score(ours, theirs if differs else {})
                if score is None:
                    continue
                if differs and len(both := ours.keys() & theirs.keys()) == 1:
                    (seed,) = both
                    pair = (rows[one][seed].evaluations.found[kind].by_episode for one in (name, base))
                    score = _score_over_episodes(score, *(one.get(measure) for one in pair))
                found[name][f"{kind}/{measure}"] = score
    return EvaluationSummaries(found, tuple(left_out))


def _unread_evaluations(rows: RunsByRow) -> Iterator[str]:
    for name, runs in rows.items():
        for seed, run in runs.items():
            yield from (f"{name}, seed {seed}: {reason}" for reason in run.evaluations.left_out)


def _commonest_facts(rows: RunsByRow, kind: str) -> str | None:
    """Return what most runs were asked, of equally many the first; None where none was."""
    counts = Counter(
        run.evaluations.found[kind].facts
        for runs in rows.values()
        for run in runs.values()
        if kind in run.evaluations.found
    )
    return counts.most_common(1)[0][0] if counts else None


def _asked_otherwise(rows: RunsByRow, kind: str, facts: str | None) -> Iterator[str]:
    for name, runs in rows.items():
        for seed, run in runs.items():
            one = run.evaluations.found.get(kind)
            if one is not None and one.facts != facts:
                yield (
                    f"{name}, seed {seed}: {EVALUATION_KINDS[kind].file} is of other settings or images "
                    "than most runs'"
                )


def _evaluation_values(runs: RunsBySeed, kind: str, facts: str | None) -> dict[str, dict[int, float]]:
    """Return name of a number -> seed -> its value."""
    values: dict[str, dict[int, float]] = {}
    for seed, run in runs.items():
        one = run.evaluations.found.get(kind)
        if one is not None and one.facts == facts:
            for name, value in one.values.items():
                values.setdefault(name, {})[seed] = value
    return values


def _complete_measures(
    rows: RunsByRow, values: Mapping[str, Mapping[str, Mapping[int, float]]]
) -> Sequence[str]:
    """Return the numbers that some row has of all its finished runs, in the order in which they are found."""
    names = dict.fromkeys(name for by_name in values.values() for name in by_name)
    return [
        name
        for name in names
        if any(runs and len(values[row].get(name, {})) == len(runs) for row, runs in rows.items())
    ]


def _evaluation_score(values: Mapping[int, float], base: Mapping[int, float]) -> EvaluationScore | None:
    summary = mean_and_deviation(list(values.values()))
    return None if summary is None else EvaluationScore(summary, paired_seed_difference(values, base))


def _score_over_episodes(
    score: EvaluationScore, ours: EpisodeAccuracies | None, theirs: EpisodeAccuracies | None
) -> EvaluationScore:
    """Return the score of a row that has one pair of runs, whose difference has an interval over the episodes.

    As it is where they were not asked the same episodes.
    """
    if ours is None or theirs is None or ours.episodes != theirs.episodes:
        return score
    mean, half, _ = episode_difference(ours.accuracies, theirs.accuracies)
    if half is None:
        return score
    return replace(score, difference=PairedDifference(mean, mean - half, mean + half, 1), over="episodes")


__all__ = [
    "EvaluationSummaries",
    "build_comparison",
    "summarise_evaluations",
]
