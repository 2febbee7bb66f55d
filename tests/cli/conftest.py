"""The command line as a user starts it: through the installed entry point."""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from shutil import copytree
from types import ModuleType

import pytest
from command_line import Outcome, entry_point, run_command, signals_put_back
from forked_workers import forked_workers  # noqa: F401 a fixture


@pytest.fixture
def kdcam(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run a command in this process and return its exit code, stdout and stderr."""

    def run(*arguments: object) -> Outcome:
        return run_command(monkeypatch, capfd, *arguments)

    return run


@pytest.fixture
def module() -> Callable[[str], ModuleType]:
    """Return a module of the command line by its file's name."""
    package = entry_point().__module__.rpartition(".")[0]
    return lambda name: import_module(f"{package}.{name}")


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    with signals_put_back():
        yield


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def _digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import kdcam as library

    recipe = library.load_recipe("digits", ["epochs=1", "model.name=kdcam:resnet8"])
    return library.train(recipe, output=tmp_path_factory.mktemp("runs") / "digits-0").path


@pytest.fixture(scope="session")
def _labels_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from small_runs import SCENES, small_recipe

    import kdcam as library

    data = {**SCENES, "multi_label": True}
    recipe = small_recipe(task="multi-label", data=data, loss=[{"name": "binary_cross_entropy"}], epochs=1)
    return library.train(recipe, output=tmp_path_factory.mktemp("runs") / "labels-0").path


@pytest.fixture
def digits_run(_digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one epoch, a copy for each test, since evaluations write into it."""
    return copytree(_digits_run, tmp_path_factory.mktemp("runs") / _digits_run.name)


@pytest.fixture
def labels_run(_labels_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one epoch with several labels an image, a copy for each test."""
    return copytree(_labels_run, tmp_path_factory.mktemp("runs") / _labels_run.name)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 12 colour pictures of 20 x 24 pixels, reddish and bluish."""
    import numpy
    from PIL import Image

    generator = numpy.random.default_rng(0)
    for channel, name in ((0, "cat"), (2, "dog")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for index in range(12):
            pixels = generator.integers(0, 100, (24, 20, 3), dtype=numpy.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return tmp_path / "photos"


@pytest.fixture
def photo_recipe(tmp_path: Path, photos: Path) -> Path:
    recipe = tmp_path / "photos.toml"
    recipe.write_text(
        f'epochs = 1\nbatch_size = 8\n[data]\nname = "image-folder"\nroot = "{photos}"\nimage_size = 16\n'
        'validation = 0.2\ntest = 0.2\n[model]\nname = "kdcam:resnet8_s2"\n'
    )
    return recipe
