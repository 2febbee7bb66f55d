from pathlib import Path

import pytest
import torch
from small_runs import small_recipe

import kdcam
from kdcam.errors import RecipeError
from kdcam.evaluation.robustness.out_of_distribution import foreign_batches, foreign_config, with_channels
from kdcam.runs.open_run import LoadedRun, load_run
from kdcam.runtime.progress import Silent


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    run = kdcam.train(small_recipe(epochs=1), output=tmp_path_factory.mktemp("runs") / "run", device="cpu")
    return load_run(run.path, device="cpu")


def test_a_data_set_by_its_name_in_the_runs_size(loaded: LoadedRun) -> None:
    found = foreign_batches("digits", loaded, batch_size=50, progress=Silent())
    assert found.num_images == 497
    assert len(found) == 10
    batch = next(iter(found.epoch(0)))
    assert batch.images.shape == (50, loaded.classifier.in_channels, 16, 16)


def test_the_test_part_of_a_run(loaded: LoadedRun) -> None:
    found = foreign_batches(str(loaded.path), loaded, batch_size=50, progress=Silent())
    own = next(iter(loaded.batches(loaded.part("test")).epoch(0)))
    assert torch.equal(next(iter(found.epoch(0))).images, own.images)


def test_a_run_whose_training_does_not_go_with_the_size(loaded: LoadedRun, tmp_path: Path) -> None:
    from PIL import Image

    for name in "ab":
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (20, 20), (20 * number, 0, 0)).save(
                tmp_path / "pictures" / name / f"{number}.png"
            )
    table = {
        "name": "image-folder",
        "root": str(tmp_path / "pictures"),
        "image_size": 80,
        "augment": ["resized-crop"],  # of large pictures alone
        "mixup": 0.2,
        "workers": 0,
    }
    other = kdcam.train(small_recipe(epochs=1, data=table), output=tmp_path / "run", device="cpu")
    config = foreign_config(str(other.path), 16)
    assert (config.augment, config.mixup) == ((), 0)
    found = foreign_batches(str(other.path), loaded, batch_size=50, progress=Silent())
    assert next(iter(found.epoch(0))).images.shape[1:] == (loaded.classifier.in_channels, 16, 16)


def test_a_folder_of_pictures(loaded: LoadedRun, tmp_path: Path) -> None:
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (20, 20), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
    found = foreign_batches(str(tmp_path), loaded, batch_size=2, progress=Silent())
    assert [len(batch.images) for batch in found.epoch(0)] == [2, 1]


def test_gray_and_colour() -> None:
    gray = torch.tensor([0.2, 0.6])[None, None, None]
    assert torch.equal(with_channels(gray, 3), gray.repeat(1, 3, 1, 1))
    assert with_channels(gray, 1) is gray
    torch.testing.assert_close(with_channels(gray.repeat(1, 3, 1, 1), 1), gray)
    pure = torch.eye(3)[None, :, :, None]
    torch.testing.assert_close(with_channels(pure, 1).flatten(), torch.tensor([0.299, 0.587, 0.114]))


def test_what_is_no_data_is_named_before_it_is_read() -> None:
    with pytest.raises(
        RecipeError, match=r"ood: found 'digitz'; did you mean 'digits'\?.*a folder of pictures, a run"
    ):
        foreign_config("digitz", 16)
    with pytest.raises(RecipeError, match=r"ood.*image_size: found 8; must be at least 16"):
        foreign_config("digit-scenes", 8)
    assert foreign_config("mnist=somewhere", 28).root == Path("somewhere")  # type: ignore[union-attr]
