from pathlib import Path

import pytest
from small_runs import SCENES, small_recipe

import kdcam
from kdcam.api import load_run
from kdcam.errors import CheckpointError, DataError, RecipeError
from kdcam.robustness.config import FgsmConfig, StandardConfig
from kdcam.robustness.transfer import check_source, check_transferable, open_source


def test_a_source_of_the_same_images_and_classes(tmp_path: Path) -> None:
    run = kdcam.train(small_recipe(epochs=1), output=tmp_path / "run", device="cpu").path
    loaded = load_run(run, device="cpu")
    source = open_source(run, weights="selected", device="cpu")
    assert source.name == str(run)
    check_source(source, loaded)
    source.classifier.label_names = ("a", "b")  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"its classes are a, b \(2\), those of .* are .*\(10\); craft on"):
        check_source(source, loaded)
    other = small_recipe(epochs=1, data={**SCENES, "image_size": 20})
    larger = open_source(
        kdcam.train(other, output=tmp_path / "larger", device="cpu").path, weights="selected", device="cpu"
    )
    with pytest.raises(DataError, match=r"pixels a side: 20, where .* has 16"):
        check_source(larger, loaded)
    with pytest.raises(CheckpointError, match=r"nowhere"):
        open_source(tmp_path / "nowhere", weights="selected", device="cpu")


def test_stages_are_not_crafted_elsewhere() -> None:
    check_transferable([StandardConfig(), FgsmConfig()])
    with pytest.raises(RecipeError, match=r"source: does nothing for standard.*add pgd"):
        check_transferable([StandardConfig()])
