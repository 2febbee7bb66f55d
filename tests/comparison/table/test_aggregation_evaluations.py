import csv
import io
from dataclasses import replace

import pytest
from made_up_runs import evaluated, measures, plan_of

from kdcam.comparison.table.aggregation import build_comparison
from kdcam.comparison.table.run_measures import EpisodeAccuracies, RunMeasures, StoredEvaluations
from kdcam.comparison.table.text_formats import Comparison, stored_comparison
from kdcam.files.json_files import json_form

NAME = "few-shot/5-way 1-shot prototype"


def asked(value: float, *, kind: str = "few-shot", facts: str = "[]") -> RunMeasures:
    name = "5-way 1-shot prototype" if kind == "few-shot" else "pointing"
    return measures(0.7, evaluations=evaluated(kind, {name: value}, facts=facts))


def compared(runs: dict[str, RunMeasures]) -> Comparison:
    return build_comparison(plan_of(["alone", "kd"], [0, 1]), runs, {})


BOTH = {"alone-0": asked(0.5), "alone-1": asked(0.6), "kd-0": asked(0.6), "kd-1": asked(0.72)}


def test_mean_spread_and_difference_by_seed() -> None:
    alone, kd = compared(BOTH).rows
    assert alone.evaluations[NAME].summary.mean == pytest.approx(0.55)
    assert alone.evaluations[NAME].difference is None
    score = kd.evaluations[NAME]
    assert score.summary.sd == pytest.approx(0.0848528, abs=1e-6)
    assert score.difference is not None
    assert (score.difference.mean, score.difference.pairs) == (pytest.approx(0.11), 2)
    assert score.difference.high == pytest.approx(0.11 + 12.7062 * 0.01, abs=1e-5)


def test_a_number_is_shown_once_a_row_has_it_of_all_its_runs() -> None:
    some = {**BOTH, "alone-1": measures(0.7), "kd-1": measures(0.7)}
    assert [row.evaluations for row in compared(some).rows] == [{}, {}]
    alone, kd = compared({**some, "kd-1": BOTH["kd-1"]}).rows
    assert alone.evaluations[NAME].summary.count == 1
    assert kd.evaluations[NAME].difference is not None
    assert kd.evaluations[NAME].difference.pairs == 1
    page = compared({**some, "kd-1": BOTH["kd-1"]}).to_markdown()
    assert "| few-shot: 5-way 1-shot prototype | alone | 50.00 (n = 1) |  |" in page


def test_runs_that_were_asked_otherwise_are_left_out_and_told() -> None:
    found = compared({**BOTH, "kd-1": asked(0.9, facts="[1]")})
    assert found.rows[1].evaluations[NAME].summary.count == 1
    assert found.left_out == ("kd, seed 1: few-shot.json is of other settings or images than most runs'",)
    assert "- Left out: kd, seed 1: few-shot.json is of other settings" in found.to_markdown()


def test_stale_files_are_told() -> None:
    stale = measures(
        0.7, evaluations=evaluated("few-shot", {}, left_out=["localization.json is of other weights"])
    )
    assert compared({"kd-1": stale}).left_out == ("kd, seed 1: localization.json is of other weights",)


@pytest.mark.parametrize("kind", ["few-shot", "localization"])
def test_of_other_data_evaluations_on_the_same_named_images_have_a_difference(kind: str) -> None:
    plan = plan_of(["alone", "kd"], [0])
    data = plan.rows[1].recipe.data.model_copy(update={"split_seed": 1})
    other = replace(plan.rows[1], recipe=plan.rows[1].recipe.model_copy(update={"data": data}))
    runs = {"alone-0": asked(0.5, kind=kind), "kd-0": asked(0.6, kind=kind)}
    found = build_comparison(replace(plan, rows=(plan.rows[0], other)), runs, {})
    (score,) = found.rows[1].evaluations.values()
    assert score.difference is not None


def by_episode(value: float, *accuracies: float, episodes: str = "abc") -> RunMeasures:
    run = asked(value)
    (evaluation,) = run.evaluations.found.values()
    counted = replace(
        evaluation, by_episode={"5-way 1-shot prototype": EpisodeAccuracies(episodes, accuracies)}
    )
    return replace(run, evaluations=StoredEvaluations({"few-shot": counted}))


def test_of_one_pair_of_runs_the_interval_is_over_the_episodes() -> None:
    runs = {"alone-0": by_episode(0.5, 0.4, 0.5, 0.6), "kd-0": by_episode(0.6, 0.4, 0.7, 0.7)}
    found = compared(runs)
    score = found.rows[1].evaluations[NAME]
    # 0, 0.2, 0.1: s = 0.1, 1.96 s / sqrt(3) = 0.11316
    assert score.over == "episodes"
    assert score.difference is not None
    assert (score.difference.low, score.difference.high) == pytest.approx((-0.01316, 0.21316), abs=1e-5)
    page = found.to_markdown()
    assert "| kd | 60.00 | +10.00 [-1.32, +21.32] (n = 1) over episodes |" in page
    assert "- Over episodes: one seed alone is common to both rows" in page
    assert stored_comparison(json_form(found.to_json())) == found


def test_of_several_pairs_or_other_episodes_it_is_over_seeds() -> None:
    runs = {"alone-0": by_episode(0.5, 0.5, 0.5), "kd-0": by_episode(0.6, 0.6, 0.6, episodes="others")}
    score = compared(runs).rows[1].evaluations[NAME]
    assert score.difference is not None
    assert (score.over, score.difference.low) == ("seeds", None)
    runs = {
        f"{row}-{seed}": by_episode(value, value, value)
        for row, value in (("alone", 0.5), ("kd", 0.6))
        for seed in (0, 1)
    }
    found = compared(runs)
    assert found.rows[1].evaluations[NAME].over == "seeds"
    assert "ver episodes" not in found.to_markdown()


def test_all_forms_have_them() -> None:
    found = compared(BOTH)
    page = found.to_markdown()
    assert (
        "## Evaluations after training\n\n"
        "| evaluation | row | % | difference to alone, points [95 %] |\n| --- | --- | ---: | ---: |\n"
        "| few-shot: 5-way 1-shot prototype | alone | 55.00 ± 7.07 |  |\n"
        "| few-shot: 5-way 1-shot prototype | kd | 66.00 ± 8.49 | +11.00 [-1.71, +23.71] (n = 2) |\n"
    ) in page
    assert "- Few-shot: all runs are asked the same episodes." in page
    lines = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert float(lines[1][f"{NAME}_mean"]) == pytest.approx(0.66)
    assert float(lines[1][f"{NAME}_difference"]) == pytest.approx(0.11)
    assert lines[0][f"{NAME}_difference"] == ""
    document = json_form(found.to_json())
    assert document["rows"][1]["evaluations"][NAME]["difference"]["pairs"] == 2
    assert stored_comparison(document) == found


def test_official_runs_alone_are_no_episodes() -> None:
    runs = {"alone-0": measures(0.7, evaluations=evaluated("one-shot", {"Omniglot one-shot error x": 0.1}))}
    page = compared(runs).to_markdown()
    assert "| few-shot: Omniglot one-shot error x | alone | 10.00 |" in page
    assert "same episodes" not in page


def test_without_any_there_is_no_word_of_them() -> None:
    assert "valuation" not in compared({"alone-0": measures(0.7)}).to_markdown()
