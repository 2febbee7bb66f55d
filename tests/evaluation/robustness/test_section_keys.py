from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small_runs import small_recipe

import kdcam
from kdcam.evaluation.robustness.reference_runs import ReferenceNetworks
from kdcam.evaluation.robustness.robustness_settings import robustness_evaluation_settings
from kdcam.evaluation.robustness.section_keys import (
    evaluated_part,
    folder_fingerprint,
    network_key,
    section_keys,
)
from kdcam.runs.open_run import LoadedRun, load_run
from kdcam.runtime.progress import Silent


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    run = kdcam.train(
        small_recipe(epochs=1), output=tmp_path_factory.mktemp("keys") / "run", device="cpu"
    ).path
    return load_run(run, device="cpu")


def keys(loaded: LoadedRun, *, batch_size: int = 4, **settings: Any) -> dict[str, str]:
    return section_keys(
        loaded,
        robustness_evaluation_settings({"n_examples": 5, **settings}),
        ReferenceNetworks(None, None),
        network=network_key(loaded, "selected"),
        batch_size=batch_size,
        progress=Silent(),
    )


def test_a_key_holds_what_its_section_depends_on_and_no_more(loaded: LoadedRun) -> None:
    everything: dict[str, Any] = {"corruptions": ["jpeg"], "calibration": True, "ood": "digits"}
    before = keys(loaded, attacks=["pgd"], **everything)
    assert set(before) == {"attacks", "checks", "corruptions", "calibration", "out_of_distribution"}

    def changed(**changes: Any) -> set[str]:
        after = keys(loaded, **{"attacks": ["pgd"], **everything, **changes})
        return {section for section in before if before[section] != after.get(section)}

    assert changed() == set()
    assert changed(batch_size=2, checks=False) == set()
    assert changed(steps=3) == {"attacks", "checks"}
    assert changed(severities=[1]) == {"corruptions"}
    assert changed(seed=1) == {"attacks", "checks", "corruptions"}
    assert changed(ood="digit-scenes") == {"out_of_distribution"}


def test_the_batch_size_counts_where_an_attack_draws_by_the_batch(loaded: LoadedRun) -> None:
    one, other = (keys(loaded, attacks=["autoattack"], batch_size=size) for size in (2, 3))
    assert one["attacks"] != other["attacks"]


def test_the_kind_of_device_counts(loaded: LoadedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"attacks": ["fgsm"], "calibration": True}
    before = keys(loaded, **asked)

    class Elsewhere:
        device = torch.device("cuda", 1)

    monkeypatch.setitem(loaded.classifier._buffers, "mean", Elsewhere())  # type: ignore[arg-type]
    after = keys(loaded, **asked)
    assert all(before[section] != after[section] for section in before)


def test_the_temperature_hangs_on_the_validation_images(loaded: LoadedRun) -> None:
    asked: dict[str, Any] = {"calibration": True, "attacks": ["fgsm"]}
    validation = loaded.parts.validation
    assert validation is not None
    fewer = loaded._replace(
        parts=type(loaded.parts)(**{**vars(loaded.parts), "validation": evaluated_part(validation, 3)})
    )
    before, after = keys(loaded, **asked), keys(fewer, **asked)
    assert before["calibration"] != after["calibration"]
    assert before["attacks"] == after["attacks"]


def test_a_folder_of_foreign_images_is_known_by_its_files(loaded: LoadedRun, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "inner" / "a.png")
    before = keys(loaded, ood=str(tmp_path))["out_of_distribution"]
    assert keys(loaded, ood=str(tmp_path))["out_of_distribution"] == before
    assert folder_fingerprint(tmp_path) == folder_fingerprint(tmp_path / "inner" / "..")
    Image.new("L", (8, 8)).save(tmp_path / "inner" / "b.png")
    assert keys(loaded, ood=str(tmp_path))["out_of_distribution"] != before
