from pathlib import Path

import pytest
from small_runs import SCENES, Watcher, small_recipe

import kdcam
from kdcam.attacks.attack_settings import FgsmConfig, SquareConfig, StandardConfig
from kdcam.errors import CheckpointError, DataError, RecipeError
from kdcam.evaluation.robustness.reference_runs import (
    check_reference,
    check_transferable,
    open_reference,
    warn_of_other_data,
)
from kdcam.runs.open_run import load_run


def test_a_source_of_the_same_images_and_classes(tmp_path: Path) -> None:
    run = kdcam.train(small_recipe(epochs=1), output=tmp_path / "run", device="cpu").path
    loaded = load_run(run, device="cpu")
    source = open_reference(run, role="source", weights="selected", device="cpu")
    assert source.name == str(run)
    check_reference(source, loaded, role="source")
    watcher = Watcher()
    warn_of_other_data(source, loaded, role="source", progress=watcher)
    assert watcher.warnings == []
    source.classifier.label_names = ("a", "b")  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"its classes are a, b \(2\), those of .* are .*\(10\); craft on"):
        check_reference(source, loaded, role="source")
    other = small_recipe(epochs=1, data={**SCENES, "image_size": 20})
    larger = open_reference(
        kdcam.train(other, output=tmp_path / "larger", device="cpu").path,
        role="base",
        weights="selected",
        device="cpu",
    )
    with pytest.raises(DataError, match=r"base .*larger: pixels a side: 20, where .* has 16; name a base"):
        check_reference(larger, loaded, role="base")
    warn_of_other_data(larger, loaded, role="base", progress=watcher)
    (said,) = watcher.warnings
    assert "base" in said
    assert "data.image_size: 20 there, 16 here" in said
    with pytest.raises(CheckpointError, match=r"base: .*nowhere"):
        open_reference(tmp_path / "nowhere", role="base", weights="selected", device="cpu")


def test_stages_are_not_crafted_elsewhere() -> None:
    check_transferable([StandardConfig(), FgsmConfig()])
    with pytest.raises(RecipeError, match=r"source: does nothing for standard, square-5000.*add pgd"):
        check_transferable([StandardConfig(), SquareConfig()])
