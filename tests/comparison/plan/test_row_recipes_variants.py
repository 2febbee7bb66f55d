import pytest

from kdcam.comparison.plan.row_recipes import Variant, variants_of
from kdcam.errors import RecipeError


def words(*recipes: str, **keys: object) -> list[str]:
    return [str(one) for one in variants_of(recipes, **keys)]  # type: ignore[arg-type]


def test_losses_go_into_the_only_recipe() -> None:
    found = variants_of(["a.toml"], losses=("cross_entropy", "cam"))
    assert found == [Variant("a.toml", losses="cross_entropy"), Variant("a.toml", losses="cam")]


def test_losses_go_into_the_base_behind_its_methods() -> None:
    found = words("b.toml", base="a.toml", methods=("kd",), losses=("focal", "focal+cam"))
    assert found == ["a.toml", "a.toml with kd", "a.toml with focal", "a.toml with focal+cam", "b.toml"]


def test_an_entry_is_the_same_however_it_is_spaced() -> None:
    assert words("a.toml", losses=(" focal + cam", "focal+cam")) == ["a.toml with focal+cam"]


def test_losses_of_several_recipes_need_a_base() -> None:
    with pytest.raises(RecipeError, match=r"losses: found cam with 2 recipes; .* --base RECIPE"):
        words("a.toml", "b.toml", losses=("cam",))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("camm", r"losses: found 'camm'; did you mean 'cam'\?; allowed: anchor, "),
        ("cam+", r"losses: found 'cam\+'; must read NAME or NAME\+NAME"),
        ("cam+focall", r"losses: found 'focall'; did you mean 'focal'\?"),
        ("cam+focal+cam", r"losses: found 'cam\+focal\+cam', which has cam twice"),
        ("alone", r"losses: found 'alone', which is a method; name it in --methods alone"),
        ("kd_caam_cam", r"which is a method; name it in --methods kd_caam_cam"),
        (
            "dkd",
            r"found 'dkd', which distils from a teacher; name it in --methods dkd, .* cross_entropy\+dkd",
        ),
    ],
)
def test_entries_that_are_no_losses_are_refused(entry: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        words("a.toml", losses=("cam", entry))


def test_all_wrong_entries_are_named_at_once() -> None:
    with pytest.raises(RecipeError, match=r"'camm', 'foca'"):
        words("a.toml", losses=("camm", "foca"))
    with pytest.raises(RecipeError, match=r"(?s)found 'dkd'.*found 'kd'"):
        words("a.toml", losses=("dkd", "kd"))


def test_a_loss_among_the_methods_is_told_where_it_belongs() -> None:
    with pytest.raises(RecipeError, match=r"methods: found 'focal'; .*: --losses focal; allowed: alone, "):
        words("a.toml", methods=("focal",))


@pytest.mark.parametrize(
    ("key", "said"),
    [("method", r"method: is not to change beside --losses"), ("loss", r"loss: --losses says which ones")],
)
def test_losses_are_said_in_one_place(key: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        words("a.toml", losses=("cam",), keys=("epochs", key))
    assert words("a.toml", losses=("cam",), keys=("loss.cam.weight",)) == ["a.toml with cam"]
