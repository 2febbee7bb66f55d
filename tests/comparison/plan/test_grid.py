import pytest

from kdcam.comparison.plan.grid import MOST_SEEDS, grid_settings, parse_names, parse_seeds, with_teacher_flag
from kdcam.errors import RecipeError


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0..4", (0, 1, 2, 3, 4)),
        ("0,2,5", (0, 2, 5)),
        ("3", (3,)),
        ("7..7", (7,)),
        (" 4, 0..2 ,1", (4, 0, 1, 2)),
    ],
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "a", "1,,2", "4..0", "-1", "1.5", "0..", "..3", "0...4", "²", "1" * 5000]
)
def test_what_is_no_seed_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"seeds: found .*must read like 0\.\.4, 0,2,5 or 3"):
        parse_seeds(text)


def test_a_slip_does_not_plan_a_billion_runs() -> None:
    with pytest.raises(RecipeError, match=rf"more than {MOST_SEEDS}"):
        parse_seeds("0..1000000000")


def test_every_combination_the_last_key_fastest() -> None:
    assert grid_settings(["data.noise.rate=0,0.2", "epochs=1,2"]) == [
        ("data.noise.rate=0", "epochs=1"),
        ("data.noise.rate=0", "epochs=2"),
        ("data.noise.rate=0.2", "epochs=1"),
        ("data.noise.rate=0.2", "epochs=2"),
    ]
    assert grid_settings([]) == [()]


def test_commas_inside_a_value_do_not_split_it() -> None:
    assert grid_settings(['data.augment=["crop"],["crop", "flip"],[]']) == [
        ('data.augment=["crop"]',),
        ('data.augment=["crop", "flip"]',),
        ("data.augment=[]",),
    ]
    assert grid_settings(["description='a,b',\"c]\",{x = [1,2]}"]) == [
        ("description='a,b'",),
        ('description="c]"',),
        ("description={x = [1,2]}",),
    ]


@pytest.mark.parametrize("text", ["epochs", "=1", "epochs=", "epochs=1,", "epochs=1,,2"])
def test_what_is_no_list_of_values_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"must read key=value,value"):
        grid_settings([text])


def test_a_value_or_a_key_said_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"has 1 twice"):
        grid_settings(["epochs=1,2,1"])
    with pytest.raises(RecipeError, match=r"epochs is said more than once"):
        grid_settings(["epochs=1,2", "epochs=3"])
    with pytest.raises(RecipeError, match=r"leave it out of --set"):
        grid_settings(["epochs=1,2"], ["epochs = 3"])


@pytest.mark.parametrize(("grid", "sets"), [(["seed=0,1"], []), ([], ["seed=1"])])
def test_seeds_have_a_flag_of_their_own(grid: list[str], sets: list[str]) -> None:
    with pytest.raises(RecipeError, match=r"is what --seeds says"):
        grid_settings(grid, sets)


def test_errors_about_a_teacher_name_the_flag_that_named_it() -> None:
    text = "teacher.checkpoint: runs/a is not there"
    assert with_teacher_flag(text, ["runs/a"]) == "--teacher: runs/a is not there"
    assert with_teacher_flag(text, []) == text
    named = "name one with --teacher RUN (teacher.checkpoint), or leave it out"
    assert with_teacher_flag(named, ["runs/a"]) == "name one with --teacher RUN, or leave it out"


def test_names_between_commas() -> None:
    assert parse_names(" kd,dkd,", flag="--methods") == ["kd", "dkd"]
    with pytest.raises(RecipeError, match=r"--methods: found ' , '; must name at least one"):
        parse_names(" , ", flag="--methods")
