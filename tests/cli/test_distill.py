import json
from pathlib import Path

import pytest

STUDENT = """
epochs = 1
[data]
name = "digits"
[model]
name = "kdcam:resnet8"
[[loss]]
name = "cross_entropy"
weight = 0.1
[[loss]]
name = "kd"
weight = 0.9
[[loss]]
name = "caam_cam"
"""


def test_distill_takes_the_teacher_from_its_flag(kdcam, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "student.toml").write_text(STUDENT)
    found = kdcam("distill", "student.toml", "--teacher", digits_run)
    assert found.code == 0, found.err
    assert "runs/student-0 finished" in found.out
    assert "kd " in found.err
    assert "caam_cam " in found.err
    stored = json.loads((tmp_path / "runs" / "student-0" / "recipe.json").read_text())
    assert stored["recipe"]["teacher"]["checkpoint"] == str(digits_run)


def test_the_flag_counts_more_than_the_recipe(kdcam, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "student.toml").write_text(STUDENT + '[teacher]\ncheckpoint = "elsewhere/run"\n')
    found = kdcam("distill", "student.toml", "--teacher", digits_run, "--dry-run", "--json")
    document = json.loads(found.out)
    assert document["recipe"]["teacher"]["checkpoint"] == str(digits_run)
    assert document["teacher_parameters"] > 0
    assert not (tmp_path / "runs").exists()


def test_without_a_teacher(kdcam, tmp_path: Path) -> None:
    (tmp_path / "student.toml").write_text(STUDENT)
    found = kdcam("distill", "student.toml")
    assert found.code == 1
    assert "loss[1] (kd): needs a teacher" in found.err
    assert "--teacher" in found.err
    plain = kdcam("distill", "digits")
    assert plain.code == 1
    assert "no [teacher] table" in plain.err


def test_train_refuses_a_teacher(kdcam, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "student.toml").write_text(f'{STUDENT}[teacher]\ncheckpoint = "{digits_run}"\n')
    for arguments in ([], ["--dry-run"]):
        found = kdcam("train", "student.toml", *arguments)
        assert found.code == 1
        assert "kdcam distill" in found.err
        assert found.out == ""


def test_a_method_brings_its_losses_and_a_place_of_its_own(kdcam, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "student.toml").write_text(STUDENT)
    found = kdcam(
        "distill", "student.toml", "--teacher", digits_run, "--method", "kd_standardized", "--dry-run"
    )
    assert found.code == 0, found.err
    assert "standardize = true" in found.out
    assert "caam_cam" not in found.out
    assert "student-kd_standardized-0" in found.err
    wrong = kdcam("distill", "student.toml", "--teacher", digits_run, "--method", "kdd")
    assert wrong.code == 1
    assert "method: found 'kdd'" in wrong.err


def test_an_override_chooses_the_method_too(kdcam, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "student.toml").write_text(STUDENT)
    found = kdcam(
        "distill", "student.toml", "--teacher", digits_run, "--set", "method=dkd", "--dry-run", "--json"
    )
    assert found.code == 0, found.err
    assert [loss["name"] for loss in json.loads(found.out)["recipe"]["loss"]] == ["cross_entropy", "dkd"]


def test_the_teacher_flag_twice_is_two_teachers(kdcam, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "student.toml").write_text(STUDENT)
    flags = ("--teacher", digits_run, "--teacher", digits_run)
    found = kdcam("distill", "student.toml", *flags, "--dry-run", "--json")
    assert found.code == 0, found.err
    teachers = json.loads(found.out)["recipe"]["teacher"]
    assert [one["checkpoint"] for one in teachers] == 2 * [str(digits_run)]


def test_a_dry_run_tells_the_size_of_the_teacher_cache(kdcam, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "student.toml").write_text(STUDENT)
    cached = (
        "--set",
        "teacher.cache=views",
        "--set",
        "teacher.cache_folder=kept",
        "--set",
        'data.augment=["crop"]',
    )
    flags = ("distill", "student.toml", "--teacher", digits_run, *cached)
    found = kdcam(*flags, "--dry-run", "--json")
    assert found.code == 0, found.err
    told = json.loads(found.out)["teacher_cache"]
    assert "views each, in kept" in told
    assert not (tmp_path / "kept").exists()
    assert kdcam(*flags).code == 0
    held = sum(file.stat().st_size for file in (tmp_path / "kept").glob("*.npy"))
    assert float(told.partition(" ")[0]) * 1e6 == pytest.approx(held, rel=0.05)
    plain = kdcam("distill", "student.toml", "--teacher", digits_run, "--dry-run", "--json")
    assert json.loads(plain.out)["teacher_cache"] is None


def test_a_student_that_is_not_cheaper_is_warned_of(kdcam, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "student.toml").write_text(STUDENT)
    larger = ("distill", "student.toml", "--teacher", digits_run, "--set", "model.name=kdcam:resnet14")
    said = "is not cheaper than its teacher"
    dry = kdcam(*larger, "--dry-run", "--json")
    assert said in json.loads(dry.out)["warnings"][0]
    assert (
        kdcam(*larger, "--dry-run").err.count(f"warning: model.name: the student kdcam:resnet14 {said}") == 1
    )
    assert kdcam(*larger, "-q").err.count(said) == 1
