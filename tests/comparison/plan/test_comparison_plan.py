from pathlib import Path

import pytest

from kdcam.comparison.plan.comparison_plan import plan_comparison
from kdcam.errors import RecipeError

DATA = '[data]\nname = "digits"\n'
PLAIN = DATA + '[[loss]]\nname = "cross_entropy"\n'
TAUGHT = f'method = "kd"\n{DATA}[teacher]\ncheckpoint = "runs/teacher"\n'
CAM = PLAIN + '[[loss]]\nname = "cam"\n'
SEVERAL = 'task = "multi-label"\n[data]\nname = "digit-scenes"\nmulti_label = true\n'
SEVERAL += '[[loss]]\nname = "binary_cross_entropy"\n'


@pytest.fixture(autouse=True)
def _recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {"plain": PLAIN, "taught": TAUGHT, "cam": CAM, "several": SEVERAL, "wrong": DATA + "epoch = 3\n"}
    for name, text in texts.items():
        Path(f"{name}.toml").write_text(text)


def names(*recipes: str, **keys: object) -> list[str]:
    return [row.name for row in plan_comparison([f"{one}.toml" for one in recipes], **keys).rows]  # type: ignore[arg-type]


def test_rows_are_the_recipes_and_cells_come_seed_by_seed() -> None:
    plan = plan_comparison(["plain.toml", "cam.toml"], seeds=(2, 0))
    assert [row.name for row in plan.rows] == ["plain", "cam"]
    assert [cell.name for cell in plan.cells()] == ["plain-2", "cam-2", "plain-0", "cam-0"]
    assert [cell.recipe.seed for cell in plan.cells()] == [2, 2, 0, 0]
    assert [loss.name for loss in plan.cells()[1].recipe.loss] == ["cross_entropy", "cam"]
    assert plan.messages == ()


def test_the_base_comes_first_and_is_added_where_it_is_not_named() -> None:
    assert names("plain", "cam", base="cam.toml") == ["cam", "plain"]
    assert names("plain", base="cam.toml") == ["cam", "plain"]
    assert names(base="cam.toml") == ["cam"]


def test_methods_go_into_the_only_recipe() -> None:
    plan = plan_comparison(["taught.toml"], methods=("alone", "kd", "caam_cam"))
    assert [row.name for row in plan.rows] == ["alone", "kd", "caam_cam"]
    assert [len(row.recipe.teachers) for row in plan.rows] == [0, 1, 1]
    assert [row.method for row in plan.rows] == ["alone", "kd", "caam_cam"]
    assert {row.source for row in plan.rows} == {"taught.toml"}


def test_methods_go_into_the_base_beside_its_own_losses() -> None:
    found = names("cam", base="plain.toml", methods=("kd", "dkd"), teachers=("runs/teacher",))
    assert found == ["plain", "plain-kd", "plain-dkd", "cam"]


def test_a_grid_of_two_keys_recipe_by_recipe() -> None:
    plan = plan_comparison(
        ["plain.toml", "cam.toml"],
        grid=("data.noise.rate=0,0.2", "epochs=1,2"),
        sets=("data.noise.kind=symmetric",),
    )
    assert [row.name for row in plan.rows][:5] == [
        "plain-noise.rate=0-epochs=1",
        "plain-noise.rate=0-epochs=2",
        "plain-noise.rate=0.2-epochs=1",
        "plain-noise.rate=0.2-epochs=2",
        "cam-noise.rate=0-epochs=1",
    ]
    row = plan.rows[3]
    assert row.settings == ("data.noise.rate=0.2", "epochs=2")
    assert row.recipe.epochs == 2
    assert row.recipe.data.noise is not None
    assert row.recipe.data.noise.rate == 0.2
    assert plan.sets == ("data.noise.kind=symmetric",)


def test_a_grid_changes_only_the_rows_that_have_the_loss() -> None:
    plan = plan_comparison(["plain.toml", "cam.toml"], grid=("loss.cam.weight=1,3",))
    assert [row.name for row in plan.rows] == ["plain", "cam-cam.weight=1", "cam-cam.weight=3"]
    assert plan.rows[0].settings == ()
    assert plan.messages == ("loss.cam.weight has no place in plain.toml, and changes nothing there",)


def test_the_cache_of_a_teacher_is_none_of_a_row_alone() -> None:
    plan = plan_comparison(["taught.toml"], methods=("alone", "kd"), sets=("teacher.cache=views",))
    assert plan.rows[1].recipe.teachers[0].cache == "views"
    assert plan.messages == (
        "teacher.cache has no place in taught.toml with alone, and changes nothing there",
    )


def test_a_setting_that_no_row_has_a_place_for_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"loss\.camm\.weight: no row has a place for it"):
        names("plain", "cam", grid=("loss.camm.weight=1,3",))
    with pytest.raises(RecipeError, match=r"teacher\.cache: no row has a place for it"):
        names("plain", sets=("teacher.cache=views",))


def test_rows_of_one_recipe_are_run_once() -> None:
    plan = plan_comparison([], base="taught.toml", methods=("kd", "dkd"))
    assert [row.name for row in plan.rows] == ["taught", "dkd"]
    assert plan.messages == ("kd is the same recipe as taught, and is run once, as taught",)
    assert names("plain", "plain") == ["plain"]


def test_description_and_published_number_make_no_other_run(tmp_path: Path) -> None:
    head = 'description = "a copy"\n'
    (tmp_path / "copy.toml").write_text(head + PLAIN + '[published]\naccuracy = 9\nsource = "x"\n')
    assert names("plain", "copy") == ["plain"]


def test_the_teacher_that_agreement_is_measured_with() -> None:
    plan = plan_comparison(["taught.toml"], methods=("alone", "kd"), teachers=("runs/other",))
    assert [row.teacher.checkpoint for row in plan.rows if row.teacher] == ["runs/other", "runs/other"]
    beside = plan_comparison(["taught.toml", "plain.toml"])
    assert [row.teacher.checkpoint for row in beside.rows if row.teacher] == ["runs/teacher", "runs/teacher"]
    apart = plan_comparison(["plain.toml", "taught.toml"], grid=("teacher.checkpoint=a,b",))
    assert [row.teacher and row.teacher.checkpoint for row in apart.rows] == [None, "a", "b"]
    alone = plan_comparison(["taught.toml"], methods=("alone", "kd"), grid=("teacher.checkpoint=a,b",))
    assert [row.teacher and row.teacher.checkpoint for row in alone.rows] == [None, "a", "b"]
    both = plan_comparison(["taught.toml", "plain.toml"], teachers=("a", "b"))
    assert [row.teacher for row in both.rows] == [None, None]


def test_a_row_alone_has_a_teacher_to_agree_with_though_no_row_is_taught() -> None:
    (row,) = plan_comparison(["taught.toml"], methods=("alone",)).rows
    assert row.teacher is not None
    assert row.teacher.checkpoint == "runs/teacher"
    assert not row.recipe.has_teacher


def test_published_numbers_follow_the_method() -> None:
    name = "distillation/cifar100-resnet56-resnet20"
    plan = plan_comparison([name], methods=("alone", "kd", "crd", "caam_cam"))
    assert [row.published and row.published.accuracy for row in plan.rows] == [
        None,
        70.66,
        71.16,
        None,
    ]


def test_all_wrong_rows_are_named_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        names("wrong", "plain", "taught", sets=("teacher.cach=views",))
    told = str(caught.value)
    assert told.startswith("2 rows cannot be run:")
    assert "wrong.toml" in told
    assert "'epoch'" in told
    assert "taught.toml" in told
    assert "'cach'" in told


def test_unreadable_recipes_are_named_at_once() -> None:
    with pytest.raises(RecipeError, match=r"(?s)2 rows cannot be run:.*nowhere\.toml.*neither"):
        plan_comparison(["nowhere.toml", "neither", "plain.toml"])


def test_one_wrong_row_of_a_grid_is_named_with_its_value() -> None:
    with pytest.raises(RecipeError, match=r"recipe plain\.toml \(epochs=0\): epochs: found 0"):
        names("plain", grid=("epochs=0,1",))


def test_rows_of_other_tasks_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"plain has 'single-label' and several 'multi-label'"):
        names("plain", "several")


def test_unknown_methods_are_refused_with_those_there_are() -> None:
    with pytest.raises(RecipeError, match=r"methods: found 'kdd'; did you mean 'kd'\?; allowed: alone, "):
        names("taught", methods=("kd", "kdd"))


def test_methods_of_several_recipes_need_a_base() -> None:
    with pytest.raises(RecipeError, match=r"name the one that they are put into with --base RECIPE"):
        names("plain", "taught", methods=("kd",))


def test_a_teacher_that_no_row_reads_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"--teacher runs/a: no row reads a teacher"):
        names("plain", teachers=("runs/a",))


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"recipes: found none"):
        names()
    with pytest.raises(RecipeError, match=r"seeds: found none; name at least one"):
        names("plain", seeds=())
    with pytest.raises(RecipeError, match=r"seeds: found -1"):
        names("plain", seeds=(0, -1))


def test_the_folders_of_a_row_are_its_own_whatever_the_other_rows() -> None:
    alone = plan_comparison(["taught.toml"], methods=("dkd",), grid=("epochs=1",))
    beside = plan_comparison(["cam.toml"], base="taught.toml", methods=("dkd", "crd"), grid=("epochs=1,2",))
    assert [cell.name for cell in alone.cells()] == ["taught-dkd-epochs=1-0"]
    assert [cell.name for cell in beside.cells()].count("taught-dkd-epochs=1-0") == 1
    assert [row.name for row in alone.rows] == ["dkd-epochs=1"]


def test_rows_whose_folders_would_meet_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "plain.toml").write_text(CAM)
    folders = [row.folder for row in plan_comparison(["plain.toml", "other/plain.toml", "taught.toml"]).rows]
    assert len(set(folders)) == 3
    assert folders[2] == "taught"


def test_settings_of_a_method_are_for_its_rows() -> None:
    plan = plan_comparison(["taught.toml"], methods=("kd", "dkd"), grid=("methods.dkd.beta=1,2",))
    assert [row.name for row in plan.rows] == ["kd", "dkd-dkd.beta=1", "dkd-dkd.beta=2"]
    assert plan.messages == (
        "methods.dkd.beta has no place in taught.toml with kd, and changes nothing there",
    )


@pytest.mark.parametrize("flag", ["grid", "sets"])
def test_methods_are_said_in_one_place(flag: str) -> None:
    with pytest.raises(RecipeError, match=r"method: --methods says which ones there are"):
        names("taught", methods=("kd",), **{flag: ("method=dkd",)})


def test_a_published_number_stands_at_the_recipes_own_setting_only() -> None:
    name = "distillation/cifar100-resnet56-resnet20"
    plan = plan_comparison([name], grid=("loss.kd.temperature=2,4",), sets=("teacher.cache=views",))
    assert [row.published is not None for row in plan.rows] == [False, True]
    methods = plan_comparison([name], grid=("method=kd,crd,caam_cam",))
    assert [row.published and row.published.accuracy for row in methods.rows] == [70.66, 71.16, None]
    (crd,) = plan_comparison([name], sets=("method=crd",)).rows
    assert crd.published is not None
    assert crd.published.accuracy == 71.16
    (short,) = plan_comparison([name], sets=("epochs=2",)).rows
    assert short.published is None
