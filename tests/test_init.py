"""The names that a user types: `import kdcam`."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest

import kdcam


def test_all_is_sorted_as_ruff_sorts_and_names_what_is_documented() -> None:
    constants = [name for name in kdcam.__all__ if name.isupper()]
    classes = [name for name in kdcam.__all__ if name[0].isupper() and not name.isupper()]
    others = [name for name in kdcam.__all__ if not name[0].isupper()]
    assert kdcam.__all__ == [*sorted(constants), *sorted(classes), *sorted(others)]
    assert {"train", "distill", "load", "load_recipe", "LOSSES", "evaluate", "evaluate_robustness"} <= {
        *others,
        *constants,
    }


def test_the_lazy_table_and_all_agree() -> None:
    assert set(kdcam._HOMES) | {"__version__"} == set(kdcam.__all__)
    for name, module in kdcam._HOMES.items():
        home = import_module(module)
        assert getattr(kdcam, name) is getattr(home, name)
        assert name in home.__all__


def test_dir_shows_what_is_not_imported_yet() -> None:
    assert set(kdcam.__all__) <= set(dir(kdcam))


def test_version_is_the_installed_one() -> None:
    assert kdcam.__version__ == version("kdcam")


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'kdcam' has no attribute 'trian'"):
        kdcam.trian  # noqa: B018


def test_no_module_shares_a_public_functions_name() -> None:
    for name in kdcam.__all__:
        with pytest.raises(ModuleNotFoundError):
            import_module(f"kdcam.{name}")


def run_python(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_import_waits_for_nothing_and_star_gives_all() -> None:
    run_python(
        "import sys, kdcam\n"
        "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "from kdcam import *\n"
        "assert train is kdcam.train and LOSSES is kdcam.LOSSES\n"
    )


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("kdcam.cam.maps", "caam, class_cams, target_cam, minmax_normalize"),
        ("kdcam.attacks", "fgsm, bim, pgd, mim"),
        ("kdcam.losses.caam_cam", "caam_cam_loss"),
    ],
)
def test_a_module_is_imported_first_of_all(module: str, names: str) -> None:
    run_python(f"from {module} import {names}")


def test_public_modules_are_reached_by_attribute() -> None:
    run_python("import kdcam; kdcam.cam.maps.caam; kdcam.attacks.pgd; kdcam.losses.LOSSES")


def test_every_room_that_users_reach_is_there() -> None:
    for room in kdcam._SUBPACKAGES:
        assert getattr(kdcam, room) is import_module(f"kdcam.{room}")
