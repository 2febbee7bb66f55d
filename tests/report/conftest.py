"""Runs of seconds with user text that must be escaped, made once; tests that change one work on a copy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import SCENES, Watcher, small_recipe

import kdcam
from kdcam.errors import Interrupted

DESCRIPTION = "<script>alert('mine')</script> & more"
NOISE = {"kind": "symmetric", "rate": 0.4}
FEW = {"n_examples": 12, "attacks": ["fgsm", "pgd-2"], "eps": [0.01, 0.05], "checks": False}
MORE = {"calibration": True, "corruptions": ["fog"], "severities": "1,3", "ood": "digits"}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs noisy-0 and noisy-1, which differ in the seed, several-0 of several labels, stopped-0."""
    home = tmp_path_factory.mktemp("reported")
    published = {"accuracy": 81.5, "source": "Doe & Roe 2020, <i>table</i> 3"}
    for seed in (0, 1):
        recipe = small_recipe(
            seed=seed, description=DESCRIPTION, data={**SCENES, "noise": NOISE}, published=published
        )
        kdcam.train(recipe, output=home / f"noisy-{seed}")
    several = small_recipe(
        task="multi-label",
        data={**SCENES, "multi_label": True},
        loss=[{"name": "binary_cross_entropy"}],
        epochs=1,
    )
    kdcam.train(several, output=home / "several-0")
    with pytest.raises(Interrupted):
        kdcam.train(small_recipe(), output=home / "stopped-0", progress=Watcher(stop_after=5))
    kdcam.evaluate_robustness([home / "noisy-0"], settings={**FEW, **MORE}, draw=True)
    kdcam.evaluate_robustness([home / "several-0"], settings=FEW)
    return home


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Callable[..., list[Path]]:
    """Return copies of trained runs by their names."""

    def copied(*names: str) -> list[Path]:
        return [Path(shutil.copytree(trained / name, tmp_path / "runs" / name)) for name in names]

    return copied
