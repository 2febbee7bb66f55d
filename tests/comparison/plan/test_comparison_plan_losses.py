"""Rows of losses in the plan of a comparison."""

from pathlib import Path

import pytest

from kdcam.comparison.plan.comparison_plan import ComparisonPlan, plan_comparison
from kdcam.errors import RecipeError

DATA = '[data]\nname = "digits"\n'
PLAIN = DATA + '[[loss]]\nname = "cross_entropy"\n[[loss]]\nname = "center"\n'
TAUGHT = f'method = "kd"\n{DATA}[teacher]\ncheckpoint = "runs/teacher"\n'


@pytest.fixture(autouse=True)
def _recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"plain": PLAIN, "taught": TAUGHT, "bare": DATA}.items():
        Path(f"{name}.toml").write_text(text)


def losses_of_rows(plan: ComparisonPlan) -> dict[str, list[str]]:
    return {row.name: [loss.name for loss in row.recipe.loss] for row in plan.rows}


def test_a_row_for_each_entry() -> None:
    plan = plan_comparison(["plain.toml"], losses=("cross_entropy", "focal", "cam", "focal+cam"))
    assert losses_of_rows(plan) == {
        "cross_entropy": ["cross_entropy"],
        "focal": ["focal"],
        "cam": ["cross_entropy", "cam"],
        "focal+cam": ["focal", "cam"],
    }
    assert [row.losses for row in plan.rows] == ["cross_entropy", "focal", "cam", "focal+cam"]
    assert {row.method for row in plan.rows} == {None}
    assert [cell.name for cell in plan.cells()] == [
        "plain-cross_entropy-0",
        "plain-focal-0",
        "plain-cam-0",
        "plain-focal+cam-0",
    ]


def test_a_base_has_a_row_with_its_own_losses() -> None:
    plan = plan_comparison(["bare.toml"], base="plain.toml", losses=("focal", "center"))
    assert losses_of_rows(plan) == {
        "plain": ["cross_entropy", "center"],
        "plain-focal": ["focal"],
        "bare": ["cross_entropy"],
    }
    assert plan.messages == ("plain-center is the same recipe as plain, and is run once, as plain",)


def test_each_loss_at_each_noise_rate() -> None:
    plan = plan_comparison(
        ["plain.toml"],
        losses=("cross_entropy", "cam"),
        grid=("data.noise.rate=0,0.4",),
        sets=("data.noise.kind=symmetric", "loss.cam.weight=3"),
    )
    assert [row.folder for row in plan.rows] == [
        "plain-cross_entropy-noise.rate=0",
        "plain-cross_entropy-noise.rate=0.4",
        "plain-cam-noise.rate=0",
        "plain-cam-noise.rate=0.4",
    ]
    assert [row.recipe.data.noise.rate for row in plan.rows if row.recipe.data.noise] == [0, 0.4, 0, 0.4]
    assert [row.recipe.loss[-1].weight for row in plan.rows] == [1, 1, 3, 3]
    assert plan.messages == (
        "loss.cam.weight has no place in plain.toml with cross_entropy, and changes nothing there",
    )


def test_a_grid_of_a_losses_setting_is_for_its_rows() -> None:
    plan = plan_comparison(["bare.toml"], losses=("cross_entropy", "cam"), grid=("loss.cam.weight=1,3",))
    assert list(losses_of_rows(plan)) == ["cross_entropy", "cam-cam.weight=1", "cam-cam.weight=3"]
    with pytest.raises(RecipeError, match=r"loss\.center\.weight: no row has a place for it"):
        plan_comparison(["bare.toml"], losses=("cam",), sets=("loss.center.weight=1",))


def test_beside_methods_each_is_a_row_of_its_own() -> None:
    plan = plan_comparison(
        ["taught.toml"],
        methods=("alone", "kd"),
        losses=("focal", "cam", "focal+kd"),
        teachers=("runs/other",),
    )
    assert losses_of_rows(plan) == {
        "alone": ["cross_entropy"],
        "kd": ["cross_entropy", "kd"],
        "focal": ["focal"],
        "cam": ["cross_entropy", "cam"],
        "focal+kd": ["focal", "kd"],
    }
    assert [len(row.recipe.teachers) for row in plan.rows] == [0, 1, 0, 0, 1]
    # Agreement is measured with the teacher of rows that are not taught, too.
    assert {row.teacher and row.teacher.checkpoint for row in plan.rows} == {"runs/other"}


def test_losses_that_read_a_teacher_need_one() -> None:
    with pytest.raises(RecipeError, match=r"plain\.toml \(focal\+kd\).* \(kd\): needs a teacher; name one"):
        plan_comparison(["plain.toml"], losses=("focal+kd",))


def test_a_model_that_a_loss_cannot_work_with_is_told_with_the_ways_out() -> None:
    with pytest.raises(RecipeError) as caught:
        plan_comparison(["plain.toml"], losses=("cross_entropy", "arcface"))
    assert str(caught.value) == (
        'recipe plain.toml (arcface): loss[0] (arcface) needs head = "cosine", and the model has head = "linear"; set '
        'model.head = "cosine" (in all rows: --set model.head=cosine; in this row only: a recipe file of its own, '
        "named beside --base plain.toml)"
    )
    plan = plan_comparison(["plain.toml"], losses=("cross_entropy", "arcface"), sets=("model.head=cosine",))
    assert [row.recipe.model.head for row in plan.rows] == ["cosine", "cosine"]


def test_losses_that_train_no_classifier_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"plain\.toml \(cam\+center\): loss: no term trains the classifier"
    ):
        plan_comparison(["plain.toml"], losses=("cam+center",))


def test_a_published_number_stands_in_the_row_of_the_recipes_own_losses() -> None:
    Path("paper.toml").write_text(DATA + '[published]\naccuracy = 98.5\nsource = "a paper"\n')
    plan = plan_comparison(["paper.toml"], losses=("cross_entropy", "cam"))
    assert [row.published and row.published.accuracy for row in plan.rows] == [98.5, None]
    short = plan_comparison(["paper.toml"], losses=("cross_entropy",), sets=("epochs=2",))
    assert short.rows[0].published is None


def test_a_row_of_losses_is_called_alike_whatever_the_other_rows() -> None:
    (alone,) = plan_comparison(["plain.toml"], losses=("cam",)).rows
    beside = plan_comparison(
        ["bare.toml"], base="plain.toml", methods=("alone",), losses=("focal", "cam")
    ).rows
    assert alone.folder == "plain-cam"
    assert [row.folder for row in beside if row.losses == "cam"] == ["plain-cam"]
    assert [row.name for row in beside if row.losses == "cam"] == ["plain-cam"]
