import csv
import io
import json
from dataclasses import replace

import pytest
from made_up_runs import MACHINE, VERSIONS, agreed, measures, plan_of

from kdcam.comparison.table.aggregation import build_comparison
from kdcam.comparison.table.comparison_result import EpochsToReach, count_epochs
from kdcam.data.common_config import NoiseConfig
from kdcam.recipe.recipe_fields import Published

RUNS = {
    "alone-0": measures(0.70, curve=(0.5, 0.6, 0.68), **agreed(0.75, 0.5, 0.2, 0.1)),
    "alone-1": measures(0.72, curve=(0.5, 0.7, 0.72), **agreed(0.77, 0.3, 0.4, 0.3)),
    "kd-0": measures(0.73, curve=(0.6, 0.7, 0.75), **agreed(0.85, 0.1, 0.6, 0.5)),
    "kd-1": measures(0.74, curve=(0.5, 0.6, 0.69), **agreed(0.87, 0.1, 0.6, 0.5)),
}
FAILED = {"dkd-0": "images are gone;\n  find them", "dkd-1": "the loss exploded"}


def test_means_spreads_and_differences_by_seed() -> None:
    found = build_comparison(plan_of(["alone", "kd"], [0, 1]), RUNS, {})
    alone, kd = found.rows
    assert alone.test_selected is not None
    assert alone.test_selected.mean == pytest.approx(0.71)
    assert alone.test_selected.sd == pytest.approx(0.0141421, abs=1e-6)
    assert alone.test_last is not None
    assert alone.test_last.mean == pytest.approx(0.70)
    assert alone.difference is None
    assert kd.difference is not None
    assert kd.difference.mean == pytest.approx(0.025)
    assert kd.difference.high == pytest.approx(0.025 + 12.7062 * 0.005, abs=1e-5)
    assert kd.validation_last is not None
    assert kd.validation_last.mean == pytest.approx(0.72)
    assert kd.cam_similarity is not None
    assert kd.cam_similarity.mean == pytest.approx(0.6)
    assert (found.base, found.part, found.score, found.missing) == ("alone", "test", "acc1", ())


def test_epochs_are_counted_to_the_bases_last_validation_score() -> None:
    found = build_comparison(plan_of(["alone", "kd"], [0, 1]), RUNS, {})
    assert found.level == pytest.approx(0.70)
    # alone: never and 2; kd: 2 and never; the middle of 2 and never is never
    assert [row.epochs_to_base for row in found.rows] == [EpochsToReach(None, 1, 2)] * 2
    assert count_epochs([(0.1,), (0.3,), (0.1, 0.2)], 0.2) == EpochsToReach(2.0, 2, 3)
    assert count_epochs([(0.1, 0.2), (0.3,)], 0.2) == EpochsToReach(1.5, 2, 2)
    assert count_epochs([(0.1,)], 0.2) == EpochsToReach(None, 0, 1)
    assert count_epochs([(), ()], 0.2) is None


def test_the_base_reaches_its_own_last_score() -> None:
    runs = {f"alone-{seed}": measures(0.7, curve=(0.05, 0.1)) for seed in range(3)}
    (row,) = build_comparison(plan_of(["alone"], range(3)), runs, {}).rows
    assert row.epochs_to_base == EpochsToReach(2.0, 3, 3)


def test_only_seeds_that_both_rows_finished_are_paired() -> None:
    runs = {name: run for name, run in RUNS.items() if name != "alone-1"}
    found = build_comparison(plan_of(["alone", "kd"], [0, 1, 2]), runs, {"kd-2": "out of memory"})
    difference = found.rows[1].difference
    assert difference is not None
    assert (difference.pairs, difference.low) == (1, None)
    assert difference.mean == pytest.approx(0.03)
    assert found.rows[0].seeds == (0,)
    assert found.missing == ("alone-1", "alone-2")
    assert [(run.row, run.seed) for run in found.failed] == [("kd", 2)]


def test_without_a_test_part_differences_are_of_validation() -> None:
    runs = {"alone-0": measures(None, curve=(0.5,)), "kd-0": measures(None, curve=(0.75,))}
    found = build_comparison(plan_of(["alone", "kd"], [0]), runs, {})
    assert found.part == "validation"
    assert found.rows[1].difference is not None
    assert found.rows[1].difference.mean == pytest.approx(0.25)
    assert "test, " not in found.to_markdown().partition("\n")[0]


def test_rows_of_other_data_have_no_difference_to_the_base() -> None:
    plan = plan_of(["alone", "kd"], [0, 1])
    other = plan.rows[1].recipe.model_copy(
        update={"data": plan.rows[1].recipe.data.model_copy(update={"split_seed": 1})}
    )
    augmented = plan.rows[1].recipe.data.model_copy(update={"augment": ("flip",)})
    noisy = plan.rows[1].recipe.data.model_copy(update={"noise": NoiseConfig(rate=0.2)})
    for data, has in ((other.data, False), (augmented, True), (noisy, True)):
        row = replace(plan.rows[1], recipe=other.model_copy(update={"data": data}))
        found = build_comparison(replace(plan, rows=(plan.rows[0], row)), RUNS, {})
        assert (found.rows[1].difference is not None) == has
        assert (found.rows[1].epochs_to_base is not None) == has
        assert ("No difference to alone, trained on other data: kd." in found.to_markdown()) != has


def test_agreement_with_another_teacher_is_left_out() -> None:
    stale = replace(RUNS["kd-0"], agreed_with="runs/former")
    found = build_comparison(plan_of(["alone", "kd"], [0]), {**RUNS, "kd-0": stale}, {})
    assert found.rows[0].agreement is not None
    assert found.rows[1].agreement is None


def test_machines_and_versions_are_told_once_each() -> None:
    other = measures(0.7, machine={**MACHINE, "device": "cuda"}, versions={**VERSIONS, "torch": "2.10.0"})
    found = build_comparison(plan_of(["alone", "kd"], [0, 1]), {**RUNS, "kd-1": other}, {})
    assert found.machines == (MACHINE, {**MACHINE, "device": "cuda"})
    assert found.versions == {"python": ("3.11.0",), "timm": (None,), "torch": ("2.9.0", "2.10.0")}


def test_the_order_of_finishing_changes_nothing() -> None:
    plan = plan_of(["alone", "kd"], [0, 1])
    backwards = dict(reversed(RUNS.items()))
    assert build_comparison(plan, backwards, {}) == build_comparison(plan, RUNS, {})


def test_json_says_all() -> None:
    found = build_comparison(
        plan_of(["alone", "kd", "dkd"], [0, 1]), RUNS, FAILED, command=("kdcam", "compare")
    )
    document = json.loads(json.dumps(found.to_json()))
    assert document["rows"][1]["test_selected"] == {
        "mean": 0.735,
        "sd": pytest.approx(0.00707, abs=1e-5),
        "count": 2,
    }
    assert document["rows"][1]["curves"] == {"0": [0.6, 0.7, 0.75], "1": [0.5, 0.6, 0.69]}
    by_seed = document["rows"][1]["test_by_seed"]
    assert list(by_seed) == ["0", "1"]
    assert sum(by_seed.values()) / 2 == pytest.approx(0.735)
    assert document["rows"][2]["test_by_seed"] == {}
    assert document["rows"][1]["difference"]["pairs"] == 2
    assert document["rows"][2]["test_selected"] is None
    assert document["failed"][1] == {"name": "dkd-1", "row": "dkd", "seed": 1, "reason": "the loss exploded"}
    assert document["machines"] == [MACHINE]
    assert document["command"] == ["kdcam", "compare"]


def test_csv_has_a_line_a_row_and_no_empty_columns() -> None:
    plan = plan_of(
        ["alone", "kd", "dkd"], [0, 1], published={"kd": Published(accuracy=70.66, source='a "paper", 2')}
    )
    text = build_comparison(plan, RUNS, FAILED).to_csv()
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["row"] for line in lines] == ["alone", "kd", "dkd"]
    assert [line["runs"] for line in lines] == ["2", "2", "0"]
    assert float(lines[1]["test_selected_mean"]) == pytest.approx(0.735)
    assert lines[1]["difference_of"] == "test_selected"
    assert float(lines[1]["difference_low"]) == pytest.approx(0.025 - 12.7062 * 0.005, abs=1e-5)
    assert lines[0]["difference"] == ""
    assert (lines[1]["published_percent"], lines[1]["published_source"]) == ("70.66", 'a "paper", 2')
    assert lines[2]["test_selected_mean"] == ""
    assert "settings" not in lines[0]
    order = list(lines[0])
    assert order.index("validation_last_sd") < order.index("difference") < order.index("best_epoch_mean")


def test_nothing_finished_yet_is_a_table_too() -> None:
    found = build_comparison(plan_of(["alone", "kd"], [0]), {}, {"kd-0": "no data"})
    assert found.to_markdown().startswith(
        "| row | seeds |\n| --- | ---: |\n| alone | 0 of 1 |\n| kd | 0 of 1 |\n"
    )
    assert "- kd-0: no data" in found.to_markdown()
    assert found.to_csv().splitlines()[0] == "row,folder,recipe,method,losses,runs"
    assert found.level is None
