from pathlib import Path
from typing import Any

import pytest

from kdcam.comparison.plan.row_recipes import ALONE, RowTable, row_table
from kdcam.errors import RecipeError

STUDENT = """
description = "taught"
method = "kd"
[data]
name = "digits"
[teacher]
checkpoint = "runs/teacher"
[published.kd]
accuracy = 70.5
source = "a paper"
[published.alone]
accuracy = 69.0
source = "the same"
"""


def table_of(folder: Path, text: str = STUDENT, **changes: Any) -> RowTable:
    path = folder / "student.toml"
    path.write_text(text)
    keys: dict[str, Any] = {"method": None, "settings": (), "teachers": ()}
    return row_table(str(path), **keys | changes)


def losses(found: RowTable) -> list[str]:
    return [loss["name"] for loss in found.table["loss"]]


def test_a_recipe_and_a_method(tmp_path: Path) -> None:
    assert losses(table_of(tmp_path)) == ["cross_entropy", "kd"]
    assert losses(table_of(tmp_path, method="dkd")) == ["cross_entropy", "dkd"]
    assert table_of(tmp_path).table["published"]["accuracy"] == 70.5
    assert "published" not in table_of(tmp_path, method="dkd").table


def test_alone_takes_the_teacher_and_its_losses_away(tmp_path: Path) -> None:
    found = table_of(tmp_path, method=ALONE)
    assert losses(found) == ["cross_entropy"]
    assert "teacher" not in found.table
    assert "method" not in found.table
    assert found.table["published"]["accuracy"] == 69.0
    assert found.former_teacher is not None
    assert found.former_teacher.checkpoint == "runs/teacher"


def test_alone_trains_with_the_loss_on_the_labels_of_the_task(tmp_path: Path) -> None:
    scenes = '[data]\nname = "digit-scenes"\nmulti_label = true\n'
    several = f'task = "multi-label"\n{scenes}[[loss]]\nname = "sigmoid_focal"\n'
    assert losses(table_of(tmp_path, several, method=ALONE)) == ["binary_cross_entropy"]
    by_flag = table_of(tmp_path, scenes, method=ALONE, settings=("task=multi-label",))
    assert losses(by_flag) == ["binary_cross_entropy"]


def test_the_number_of_a_taught_run_is_none_of_alone(tmp_path: Path) -> None:
    flat = STUDENT.partition("[published.kd]")[0] + '[published]\naccuracy = 70.5\nsource = "a paper"\n'
    assert "published" in table_of(tmp_path, flat).table
    assert "published" not in table_of(tmp_path, flat, method=ALONE).table


def test_settings_of_a_teacher_or_a_loss_need_one(tmp_path: Path) -> None:
    settings = ("teacher.cache=views", "loss.kd.weight=2", "loss.0.weight=3", "epochs=7")
    found = table_of(tmp_path, settings=settings)
    assert found.without_place == ()
    assert found.table["teacher"] == {"checkpoint": "runs/teacher", "cache": "views"}
    assert [loss["weight"] for loss in found.table["loss"]] == [3, 2]
    alone = table_of(tmp_path, method=ALONE, settings=settings)
    assert alone.without_place == ("teacher.cache=views", "loss.kd.weight=2")
    assert alone.table["loss"] == [{"name": "cross_entropy", "weight": 3}]
    assert alone.table["epochs"] == 7


def test_settings_that_decide_the_method_come_before_the_others(tmp_path: Path) -> None:
    settings = ("loss.dkd.weight=2", "method=dkd", "methods.dkd.beta=3")
    found = table_of(tmp_path, settings=settings)
    assert found.table["loss"][1] == {"name": "dkd", "beta": 3, "weight": 2}
    assert found.without_place == ()
    other = table_of(tmp_path, method="kd", settings=settings[1:])
    assert losses(other) == ["cross_entropy", "kd"]
    assert other.without_place == ("methods.dkd.beta=3",)
    assert table_of(tmp_path, method=ALONE, settings=settings).without_place == settings


def test_named_teachers_take_the_place_of_the_recipes(tmp_path: Path) -> None:
    cached = ("teacher.cache=views", "teacher.checkpoint=elsewhere")
    one = table_of(tmp_path, settings=cached, teachers=("runs/a",))
    assert one.table["teacher"] == {"checkpoint": "runs/a", "cache": "views"}
    two = table_of(tmp_path, settings=cached[:1], teachers=("runs/a", "runs/b"))
    assert two.table["teacher"] == [
        {"checkpoint": "runs/a", "cache": "views"},
        {"checkpoint": "runs/b", "cache": "views"},
    ]
    assert table_of(tmp_path, method=ALONE, teachers=("runs/a", "runs/b")).former_teacher is None


def test_the_teacher_that_alone_takes_away_has_the_settings_of_flags(tmp_path: Path) -> None:
    cached = STUDENT.replace('checkpoint = "runs/teacher"', 'cache = "views"')
    for text in (STUDENT, cached, cached.replace('[teacher]\ncache = "views"\n', "")):
        found = table_of(tmp_path, text, method=ALONE, settings=("teacher.checkpoint=runs/set",))
        assert found.former_teacher is not None
        assert found.former_teacher.checkpoint == "runs/set"
        assert "teacher" not in found.table
    plain = '[data]\nname = "digits"\n'
    assert table_of(tmp_path, plain, method=ALONE, settings=("teacher.cache=views",)).former_teacher is None


def test_a_named_teacher_is_for_rows_that_read_one(tmp_path: Path) -> None:
    plain = '[data]\nname = "digits"\n'
    assert "teacher" not in table_of(tmp_path, plain, teachers=("runs/a",)).table
    taught = table_of(tmp_path, plain, method="kd", teachers=("runs/a",))
    assert taught.table["teacher"] == {"checkpoint": "runs/a"}


def test_a_wrong_teacher_is_told_even_where_it_is_taken_away(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"which the method alone takes away: .*unknown key 'chekpoint'"):
        table_of(tmp_path, STUDENT.replace("checkpoint", "chekpoint"), method=ALONE)


def test_a_setting_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"must read key=value"):
        table_of(tmp_path, settings=("epochs",))


PLAIN = '[data]\nname = "digits"\n'
BOTH = PLAIN + '[[loss]]\nname = "cross_entropy"\nlabel_smoothing = 0.1\n[[loss]]\nname = "cam"\nweight = 3\n'


def test_losses_take_the_place_of_the_recipes(tmp_path: Path) -> None:
    assert losses(table_of(tmp_path, BOTH, losses="focal")) == ["focal"]
    found = table_of(tmp_path, BOTH, losses="cam", settings=("loss.cam.start=0.5", "epochs=7"))
    assert found.table["loss"] == [
        {"name": "cross_entropy", "label_smoothing": 0.1},
        {"name": "cam", "weight": 3, "start": 0.5},
    ]
    assert found.table["epochs"] == 7
    assert found.without_place == ()


def test_settings_of_a_loss_or_a_method_that_the_row_has_not(tmp_path: Path) -> None:
    settings = ("loss.cam.weight=2", "methods.kd.weight=2", "teacher.cache=views")
    assert table_of(tmp_path, BOTH, losses="focal", settings=settings).without_place == settings
    assert table_of(tmp_path, losses="cam", settings=settings).without_place == settings[1:]


def test_a_setting_of_a_loss_finds_that_of_a_recipe_that_names_none(tmp_path: Path) -> None:
    settings = ("loss.cam.weight=2", "loss.cross_entropy.label_smoothing=0.1")
    found = table_of(tmp_path, PLAIN, settings=settings)
    assert found.without_place == settings[:1]
    assert found.table["loss"] == [{"name": "cross_entropy", "label_smoothing": 0.1}]
    assert "loss" not in table_of(tmp_path, PLAIN, settings=("epochs=2",)).table


def test_a_teacher_that_no_loss_reads_is_taken_away(tmp_path: Path) -> None:
    found = table_of(tmp_path, losses="cam", settings=("teacher.mean=[0.5]",))
    assert losses(found) == ["cross_entropy", "cam"]
    assert "teacher" not in found.table
    assert found.former_teacher is not None
    assert found.former_teacher.checkpoint == "runs/teacher"
    kept = table_of(tmp_path, losses="cross_entropy+dkd")
    assert kept.table["teacher"] == {"checkpoint": "runs/teacher"}
    assert kept.former_teacher is None


def test_a_teacher_that_the_attack_reads_stays(tmp_path: Path) -> None:
    attacked = STUDENT + '[adversary]\nattack = "pgd"\nmaximise = "kl_to_teacher"\n'
    assert "teacher" in table_of(tmp_path, attacked, losses="cam").table
    by_flag = table_of(tmp_path, losses="cam", settings=("adversary.maximise=kl_to_teacher",))
    assert "teacher" in by_flag.table


def test_a_wrong_teacher_is_told_with_the_losses_that_take_it_away(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"which a row of cam takes away: .*unknown key 'chekpoint'"):
        table_of(tmp_path, STUDENT.replace("checkpoint", "chekpoint"), losses="cam")
