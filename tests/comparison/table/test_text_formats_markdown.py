from dataclasses import replace

from made_up_runs import agreed, measures, plan_of

from kdcam.comparison.table.aggregation import build_comparison
from kdcam.recipe.recipe_fields import Published

PAPER = Published(accuracy=70.66, source="a paper, last epoch")

WANTED = """\
| row | seeds | test, selected (top-1, %) | test, last (top-1, %) | validation, selected (top-1, %) \
| validation, last (top-1, %) | best epoch | difference to alone, points [95 %] \
| agreement with the teacher (%) | KL from the teacher (nats) | CAM similarity \
| CAAM-CAM similarity | epochs to 70.00 % | images/s | seconds | parameters | published (%) |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| alone | 2 | 71.00 ± 1.41 | 70.00 ± 1.41 | 70.00 ± 2.83 | 70.00 ± 2.83 | 1.0 ± 0.0 |  \
| 76.00 ± 1.41 | 0.400 ± 0.141 | 0.300 ± 0.141 \
| 0.200 ± 0.141 | never (1 of 2) | 1,000 | 60 | 12,345 |  |
| kd | 1 of 2 | 73.00 | 72.00 | 75.00 | 75.00 | 1.0 | +3.00 (n = 1) \
| 85.00 | 0.100 | 0.600 | 0.500 | 2.0 | 12.3 | 60 | 12,345 \
| 70.66 (1) |
| dkd | 0 of 2 |  |  |  |  |  |  |  |  |  |  |  |  |  |  |  |

## What the numbers are

- Scores: top-1 accuracy in per cent, mean ± sample standard deviation over the seeds that are done.
- Selected: the epoch of the highest top-1 accuracy on the validation part, ties by the smaller negative \
log-likelihood.
- Test scores are of the test part, read for the selected and the last weights after the last epoch of each run; no \
epoch was selected on it.
- Difference: of the selected test score, in percentage points, paired by seed (n pairs), with Student's 95 % \
interval of the mean; it is not corrected for the number of rows.
- Agreement of the selected weights with the teacher (runs/teacher): share of test images with one top class; \
KL(teacher || student).
- Similarity: Pearson's correlation over the positions, mean over the test images: of both class activation maps of \
the label (CAM), and of the student's class-agnostic one and the teacher's CAM (CAAM-CAM).
- Epochs to 70.00 %: the first epoch whose validation score is at least that of alone after its last epoch (mean over \
its seeds); median over the runs, where never counts as infinite (in brackets how many get there).
- images/s and seconds: of training; median and sum over the epochs, mean over the seeds, as each run was made; runs \
side by side share the machine.
- Published (1): a paper, last epoch

## Rows

- alone: recipe some.toml; method alone; losses cross_entropy (runs/alone-SEED)
- kd: recipe some.toml; method kd; losses cross_entropy (runs/kd-SEED)
- dkd: recipe some.toml; method dkd; losses cross_entropy (runs/dkd-SEED)

## Failed runs

- dkd-0: images are gone; find them
- dkd-1: the loss exploded

## Not run yet

- kd-1

## Made with

- `kdcam compare 'my recipe.toml'`
- set in all rows: epochs=3
- seeds: 0, 1
- machine: Linux, Made-up 1, 2 cores, cpu
- python 3.11.0, torch 2.9.0
"""


def test_the_whole_page() -> None:
    runs = {
        "alone-0": measures(0.70, curve=(0.5, 0.6, 0.68), **agreed(0.75, 0.5, 0.2, 0.1)),
        "alone-1": measures(0.72, curve=(0.5, 0.71, 0.72), **agreed(0.77, 0.3, 0.4, 0.3)),
        "kd-0": measures(
            0.73, curve=(0.6, 0.7, 0.75), images_per_second=12.345, **agreed(0.85, 0.1, 0.6, 0.5)
        ),
    }
    plan = plan_of(["alone", "kd", "dkd"], [0, 1], published={"kd": PAPER})
    failed = {"dkd-0": "images are gone;\n  find them", "dkd-1": "the loss exploded"}
    command = ("kdcam", "compare", "my recipe.toml")
    found = build_comparison(replace(plan, sets=("epochs=3",)), runs, failed, command=command)
    assert found.to_markdown() == WANTED


def test_columns_with_nothing_in_any_row_are_left_out() -> None:
    page = build_comparison(
        plan_of(["alone", "kd"], [0]), {"alone-0": measures(0.7), "kd-0": measures(0.7)}, {}
    )
    heading = page.to_markdown().partition("\n")[0]
    assert heading == (
        "| row | seeds | test, selected (top-1, %) | test, last (top-1, %) | best epoch "
        "| difference to alone, points [95 %] | images/s | seconds | parameters |"
    )
    for word in ("Agreement", "Similarity", "Epochs to", "Published", "Failed runs", "Not run yet"):
        assert word not in page.to_markdown()


def test_rules_of_selection_that_differ_are_told_for_each_row() -> None:
    plan = plan_of(["alone", "kd"], [0])
    rows = (
        plan.rows[0],
        replace(plan.rows[1], recipe=plan.rows[1].recipe.model_copy(update={"select": "last"})),
    )
    page = build_comparison(replace(plan, rows=rows), {}, {}).to_markdown()
    assert "- Selected (alone): the epoch of the highest top-1 accuracy on the validation part" in page
    assert "- Selected (kd): the last epoch; nothing was selected on." in page


def test_several_labels_have_their_own_words() -> None:
    keys = {
        "task": "multi-label",
        "data": {"name": "digit-scenes", "multi_label": True},
        "loss": [{"name": "binary_cross_entropy"}],
    }
    runs = {"alone-0": measures(0.5, **agreed(0.9, 0.1))}
    page = build_comparison(plan_of(["alone"], [0], **keys), runs, {}).to_markdown()
    assert "test, selected (mAP, %)" in page
    assert "Scores: mean average precision in per cent" in page
    assert "share of (image, class) decisions that are alike on the test part; mean binary KL" in page


def test_which_part_was_tested_is_told_as_it_was() -> None:
    plan = plan_of(["alone"], [0])
    grid = replace(plan, rows=(replace(plan.rows[0], settings=("epochs=1",)),))
    tested = build_comparison(grid, {"alone-0": measures(0.5, curve=(0.6,))}, {}).to_markdown()
    assert "Test scores are of the test part" in tested
    assert "choose on validation, not on test" in tested
    held_out = build_comparison(grid, {"alone-0": measures(None, curve=(0.6,))}, {}).to_markdown()
    assert (
        "There is no test part: scores are of the validation part, on which epochs were selected" in held_out
    )
    assert "Test scores" not in held_out
    unfinished = build_comparison(plan, {}, {}).to_markdown()
    assert "test part" not in unfinished
    assert "choose on" not in unfinished


def test_names_break_no_table_and_no_list() -> None:
    name = "a|b\n| forged | 1 |\n\n## forged <b>\u202e"
    plan = plan_of([name], [0])
    page = build_comparison(plan, {}, {f"{name}-0": "x\n# forged"}).to_markdown()
    assert r"| a\|b\n\| forged \| 1 \|\n\n## forged &lt;b>\u202e | 0 of 1 |" in page
    table = [line for line in page.split("\n") if line.startswith("|")]
    assert len(table) == 3
    assert not any(line.startswith(("## forged", "# forged")) for line in page.split("\n"))
    assert all(line.isprintable() for line in page.split("\n"))
