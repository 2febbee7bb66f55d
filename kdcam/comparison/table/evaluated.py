"""The later evaluations of a comparison's runs, summed up over seeds."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from kdcam.comparison.table.comparison_result import EvaluationScore
from kdcam.comparison.table.evaluations import EVALUATION_KINDS, EpisodeAccuracies
from kdcam.comparison.table.run_measures import RunMeasures
from kdcam.scores.intervals import PairedDifference, mean_and_deviation, paired_seed_difference
from kdcam.scores.intervals_part import episode_difference as paired_by_episode

RunsByRow = Mapping[str, Mapping[int, RunMeasures]]  # row -> seed -> run


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
        facts = _usual_facts(rows, kind)
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


def _usual_facts(rows: RunsByRow, kind: str) -> str | None:
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


def _evaluation_values(
    runs: Mapping[int, RunMeasures], kind: str, facts: str | None
) -> dict[str, dict[int, float]]:
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
    mean, half, _ = paired_by_episode(ours.accuracies, theirs.accuracies)
    if half is None:
        return score
    return replace(score, difference=PairedDifference(mean, mean - half, mean + half, 1), over="episodes")


__all__ = ["EvaluationSummaries", "summarise_evaluations"]
