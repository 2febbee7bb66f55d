"""few-shot.json as a section: how well runs tell new classes apart from a few images each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdcam.blocks.document import Block, CellsByHead, Note, Section, Table, notes_on_runs, side_by_side
from kdcam.evaluation.few_shot.few_shot_schema import EpisodeScores, OneShotScores, interval_text
from kdcam.report.reported_run import ResultFile, outdated_notes


def few_shot_section(found: Sequence[ResultFile]) -> Section:
    """Return accuracies with their intervals, a column a run, and the differences to the first run by episode."""
    episodes = [(one.run, _asked(one.content)) for one in found if one.content["novel"]]
    blocks: list[Block] = [
        *outdated_notes(found),
        *notes_on_runs(episodes, runs=len(found)),
        *_episode_tables(found),
        *_one_shot_table(found),
        Note(
            f"± reaches over the {found[0].content['interval']}; it says nothing of other classes or seeds."
        ),
    ]
    return Section("Few-shot", tuple(blocks))


def _asked(content: Mapping[str, Any]) -> str:
    novel, settings = content["novel"], content["settings"]
    return (
        f"New classes: {novel['source']}, {novel['images']:,} images of {len(novel['classes'])} classes; "
        f"{settings['episodes']:,} episodes, {settings['queries']} queries a class, seed {settings['seed']}."
    )


def _episode_tables(found: Sequence[ResultFile]) -> Iterator[Table]:
    scores = [{one.name: one for one in _episode_scores(run.content)} for run in found]
    runs = tuple(run.run for run in found)
    cells: list[CellsByHead] = [
        {(name,): interval_text(one.accuracy) for name, one in by_name.items()} for by_name in scores
    ]
    if any(cells):
        yield Table(("episodes", *runs), side_by_side(cells), title="accuracy on new classes")
    differences = [_differences(by_name, scores[0]) for by_name in scores[1:]]
    if any(differences):
        title = f"difference to {runs[0]} in points, paired by episode"
        yield Table(("episodes", *runs[1:]), side_by_side(differences), title=title)


def _episode_scores(content: Mapping[str, Any]) -> Iterator[EpisodeScores]:
    for one in content["scores"]:
        yield EpisodeScores(**{**one, "right": tuple(one["right"])})


def _differences(scores: Mapping[str, EpisodeScores], base: Mapping[str, EpisodeScores]) -> CellsByHead:
    """Return the differences of what both were asked with the same episodes."""
    return {
        (name,): interval_text(one.difference(base[name]), signed=True)
        for name, one in scores.items()
        if name in base and one.episodes == base[name].episodes
    }


def _one_shot_table(found: Sequence[ResultFile]) -> Iterator[Table]:
    cells: list[CellsByHead] = []
    for run in found:
        heads = [OneShotScores(**{**one, "right": tuple(one["right"])}) for one in run.content["one_shot"]]
        cells.append({(one.head,): interval_text(one.error) for one in heads})
    if any(cells):
        title = "error on Omniglot's official one-shot runs"
        yield Table(("head", *(run.run for run in found)), side_by_side(cells), title=title)


__all__ = ["few_shot_section"]
