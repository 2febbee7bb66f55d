"""The scores of runs: one in full, several side by side, with their spread where only the seed differs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdcam.blocks.document import MISSING, Block, Note, Section, Table, Tile, Tiles, notes_on_runs, share_text
from kdcam.comparison.table.text_formats import percent_text
from kdcam.files.json_files import layout_errors
from kdcam.report.reported_run import ReportedRun
from kdcam.runs.run_files import METRICS_FILE, RECIPE_FILE, RESULT_FILE
from kdcam.scores.intervals import mean_and_deviation
from kdcam.scores.main_scores import SCORE_WORDS, score_name, score_text, selection_words
from kdcam.settings.messages import listed

_WEIGHTS = ("selected", "last")
_PARTS = ("test", "validation")
# What a recipe says that does not make two runs different experiments.
_NO_DIFFERENCE = ("description", "published", "seed")
_TEACHER_WEIGHTS = "teacher_weights"  # of recipe.json: digests
# How training treats the data that it is given; with the rest alike two runs are scored on the same images.
_TRAINING_DATA_KEYS = ("augment", "cutmix", "mixup", "noise", "workers")


def score_section(run: ReportedRun) -> Section:
    """Return all scores of one run, the rule that selected its epoch, and the published number beside them."""
    return Section("Scores", tuple(_finished(run) if run.result is not None else _unfinished(run)))


def _finished(run: ReportedRun) -> Iterator[Block]:
    result = run.result
    assert result is not None
    with layout_errors(run.folder / RESULT_FILE):
        yield Tiles(tuple(_tiles(run, result)))
        yield Note(f"Selected: {result['selection']}.")
        if result["published"] is not None:
            yield Note(f"Published: {result['published']['source']}.")
        if (noise := noise_text(result)) is not None:
            yield Note(f"Label noise in training, none in validation and test: {noise}.")
        yield _all_scores(result)


def _tiles(run: ReportedRun, result: Mapping[str, Any]) -> Iterator[Tile]:
    for part in _PARTS:
        for weights in _WEIGHTS:
            value = main_score(run, weights, part)
            if value is not None and (part == "test" or weights == "selected"):
                remark = f"{score_name(run.score)}, epoch {result[weights]['epoch']}"
                yield Tile(f"{part}, {weights} weights", share_text(value), remark)
    if result["published"] is not None:
        yield Tile("published", _published(result), "not measured here")


def _all_scores(result: Mapping[str, Any]) -> Table:
    scored = [(weights, part) for weights in _WEIGHTS for part in _PARTS if result[weights][part] is not None]
    keys = dict.fromkeys(key for weights, part in scored for key in result[weights][part])
    rows = [
        (
            f"{weights} (epoch {result[weights]['epoch']})",
            part,
            f"{result['images'][part]:,}",
            *(score_text(key, result[weights][part].get(key)) for key in keys),
        )
        for weights, part in scored
    ]
    return Table(("weights", "part", "images", *map(score_name, keys)), rows, left=2)


def _unfinished(run: ReportedRun) -> Iterator[Block]:
    yield Note(unfinished_text(run), warning=True)
    with layout_errors(run.folder / METRICS_FILE):
        scores = run.epochs[-1]["val"] if run.epochs else {}
        if scores:
            row = [str(run.epochs[-1]["epoch"]), *(score_text(key, value) for key, value in scores.items())]
            title = "validation part, after the last epoch so far"
            yield Table(("epoch", *map(score_name, scores)), [row], title=title)


def unfinished_text(run: ReportedRun) -> str:
    """Return how far a run got that has no result yet."""
    return (
        f"This run is unfinished: {len(run.epochs)} of {run.recipe['epochs']} epochs are done. It has no test score, "
        "and what follows may change; the command that began it goes on with it."
    )


def noise_text(result: Mapping[str, Any]) -> str | None:
    """Return which labels were made wrong, and how many were to be and are; None where there was no noise."""
    noise = result["label_noise"]
    if noise is None:
        return None
    nominal = "not known" if noise["nominal_rate"] is None else f"{noise['nominal_rate']:.1%}"
    return f"{noise['kind']}, nominal rate {nominal}, realised {noise['realised_rate']:.1%}"


def main_score(run: ReportedRun, weights: str, part: str) -> float | None:
    """Return the score that a run is judged by; None where it is not known."""
    if run.result is None or run.result[weights][part] is None:
        return None
    score: float | None = run.result[weights][part][run.score]
    return score


def _published(result: Mapping[str, Any]) -> str:
    return MISSING if result["published"] is None else f"{result['published']['accuracy']:.2f}%"


def runs_section(runs: Sequence[ReportedRun]) -> Section:
    """Return the main scores of several runs, and mean and spread of those that differ in nothing but the seed."""
    blocks: list[Block] = []
    for run in runs:
        if run.result is None:
            blocks.append(Note(f"{run.name}: {unfinished_text(run)}", warning=True))
    if _scored_on_others(runs):
        blocks.append(
            Note(
                "These runs do not share their data or its split: they are scored on different images.", True
            )
        )
    blocks.append(_runs_table(runs))
    blocks += _spread(runs)
    finished = [(run.name, run.result) for run in runs if run.result is not None]
    rules = [(run.name, _rule(run)) for run in runs]
    sources = [
        (name, f"Published: {one['published']['source']}.") for name, one in finished if one["published"]
    ]
    blocks += (*notes_on_runs(rules, runs=len(runs)), *notes_on_runs(sources, runs=len(runs)))
    return Section("Scores", tuple(blocks))


def _runs_table(runs: Sequence[ReportedRun]) -> Table:
    rows = [_run_row(run) for run in runs]
    columns = [name for name in rows[0] if any(row[name] != MISSING for row in rows)]
    return Table(columns, [[row[name] for name in columns] for row in rows])


def _run_row(run: ReportedRun) -> dict[str, str]:
    result = run.result
    with layout_errors(run.folder / RESULT_FILE):
        scores = {
            f"{part}, {weights}": share_text(main_score(run, weights, part))
            for part in _PARTS
            for weights in _WEIGHTS
        }
        return {
            "run": run.name,
            "seed": str(run.record.get("seed", MISSING)),
            "epochs": f"{len(run.epochs)} of {run.recipe['epochs']}"
            if result is None
            else str(result["epochs"]),
            "score": score_name(run.score),
            **scores,
            "best epoch": MISSING if result is None else str(result["selected"]["epoch"]),
            "published": MISSING if result is None else _published(result),
            **_noise(result),
        }


def _noise(result: Mapping[str, Any] | None) -> dict[str, str]:
    noise = (result or {}).get("label_noise") or {
        "kind": MISSING,
        "nominal_rate": None,
        "realised_rate": None,
    }
    return {
        "label noise": str(noise["kind"]),
        "nominal": share_text(noise["nominal_rate"]),
        "realised": share_text(noise["realised_rate"]),
    }


def _rule(run: ReportedRun) -> str:
    with layout_errors(run.folder / RECIPE_FILE):
        return f"Selected: {selection_words(run.recipe['select'], run.score)}."


def _spread(runs: Sequence[ReportedRun]) -> Iterator[Block]:
    """Yield mean and spread of runs that are one experiment with several seeds."""
    groups: dict[str, dict[int, ReportedRun]] = {}
    for run in runs:
        if run.result is not None:
            with layout_errors(run.folder / RECIPE_FILE):
                groups.setdefault(_experiment(run), {}).setdefault(run.record["seed"], run)
    rows = []
    for same in groups.values():
        if len(same) > 1:
            members = list(same.values())
            rows.append((listed(run.name for run in members), str(len(members)), *_means(members)))
    if rows:
        columns = ("runs", "seeds", *(f"{part}, {weights} (%)" for part in _PARTS for weights in _WEIGHTS))
        title = "mean ± sample standard deviation of runs whose recipes differ in nothing but the seed"
        yield Table(columns, rows, title=title)


def _experiment(run: ReportedRun) -> str:
    facts = {key: value for key, value in run.recipe.items() if key not in _NO_DIFFERENCE}
    return json.dumps([facts, run.record.get(_TEACHER_WEIGHTS)], sort_keys=True)


def _means(runs: Sequence[ReportedRun]) -> Iterator[str]:
    for part in _PARTS:
        for weights in _WEIGHTS:
            known = [value for run in runs if (value := main_score(run, weights, part)) is not None]
            yield percent_text(mean_and_deviation(known)) or MISSING


def _scored_on_others(runs: Sequence[ReportedRun]) -> bool:
    kinds = set()
    for run in runs:
        with layout_errors(run.folder / RECIPE_FILE):
            data = {key: value for key, value in run.recipe["data"].items() if key not in _TRAINING_DATA_KEYS}
            kinds.add(json.dumps([data, SCORE_WORDS[run.score]], sort_keys=True))
    return len(kinds) > 1


__all__ = ["main_score", "noise_text", "runs_section", "score_section", "unfinished_text"]
