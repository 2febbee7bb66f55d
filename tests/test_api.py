from pathlib import Path

import pytest
from PIL import Image
from small_runs import SCENES, Watcher, small_recipe

import kdcam
from kdcam.api import default_run_folder
from kdcam.errors import DataError, RecipeError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("api") / "run"
    return kdcam.train(small_recipe(), output=output, device="cpu").path


def test_train_then_distill_then_evaluate(run: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    losses = [{"name": "cross_entropy"}, {"name": "kd"}, {"name": "caam_cam"}]
    recipe = small_recipe(loss=losses, teacher={"checkpoint": str(run)})
    student = kdcam.distill(recipe, output=tmp_path / "student", device="cpu", progress=watcher)
    assert not student.was_finished
    assert set(watcher.epochs[-1].terms) == {"cross_entropy", "kd", "caam_cam"}
    report = kdcam.evaluate(student.path, device="cpu")
    assert report.headline() == pytest.approx(student.result["selected"]["test"])
    assert kdcam.evaluate(student.path, part="validation", weights="last", device="cpu").images == 15


def test_a_teacher_of_another_image_size_is_told(run: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    data = {**SCENES, "image_size": 32}
    losses = [{"name": "cross_entropy"}, {"name": "kd"}]
    recipe = small_recipe(loss=losses, teacher={"checkpoint": str(run)}, data=data, epochs=1)
    kdcam.distill(recipe, output=tmp_path / "student", device="cpu", progress=watcher)
    assert "the teacher was trained on images of 16 pixels and sees 32 here" in watcher.warnings[0]


def test_the_other_command_is_named(run: Path) -> None:
    with pytest.raises(RecipeError, match="use `kdcam distill`"):
        kdcam.train(
            small_recipe(loss=[{"name": "cross_entropy"}, {"name": "kd"}], teacher={"checkpoint": str(run)})
        )
    with pytest.raises(RecipeError, match="use `kdcam train`"):
        kdcam.distill(small_recipe())


def test_predict_reads_files_of_other_sizes_and_modes(run: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "wide.png", tmp_path / "alpha.png"]
    Image.new("RGB", (40, 20), (200, 10, 10)).save(paths[0])
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(paths[1])
    for prediction, path in zip(kdcam.predict(run, paths, top=3), paths, strict=True):
        assert prediction.image == path
        assert len(prediction.labels) == len(prediction.scores) == 3
        assert list(prediction.scores) == sorted(prediction.scores, reverse=True)
        assert 0 < sum(prediction.scores) <= 1 + 1e-6


def test_predict_names_a_bad_image(run: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"bad\.jpg"):
        kdcam.predict(run, [tmp_path / "bad.jpg"])


def test_default_output() -> None:
    assert default_run_folder(small_recipe(seed=3)) == Path("runs/run-3")


@pytest.mark.parametrize("name", ["s2.toml", "small/s2", "s2-kd.toml"])
def test_a_recipe_that_was_read_gives_its_run_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = 'epochs = 1\n[data]\nname = "digits"\n[model]\nname = "kdcam:resnet8"\n'
    if name == "small/s2":
        monkeypatch.setattr("kdcam.recipe.recipe_files.shipped_recipes", lambda: {name: text})
    else:
        (tmp_path / name).write_text(text)
    recipe = kdcam.load_recipe(name, ["seed=4"])
    stem = name.removesuffix(".toml").rpartition("/")[2]
    assert default_run_folder(recipe) == Path(f"runs/{stem}-4")
    assert default_run_folder(recipe.model_copy(update={"seed": 5})) == Path(f"runs/{stem}-5")


def test_the_run_lies_where_the_recipe_was_read_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = 'epochs = 1\n[data]\nname = "digits"\nvalidation = 0.5\n[model]\nname = "kdcam:resnet8_s2"\n'
    (tmp_path / "s1.toml").write_text(text)
    base = kdcam.train(kdcam.load_recipe("s1.toml"), device="cpu")
    assert base.path == Path("runs/s1-0")
    (tmp_path / "s2.toml").write_text(text + '[teacher]\ncheckpoint = "runs/s1-0"\n[[loss]]\nname = "kd"\n')
    assert kdcam.distill(kdcam.load_recipe("s2.toml"), device="cpu").path == Path("runs/s2-0")
    (tmp_path / "s3.toml").write_text(text + '[init]\ncheckpoint = "runs/s1-0"\n')
    assert kdcam.finetune(kdcam.load_recipe("s3.toml"), device="cpu").path == Path("runs/s3-0")
    assert kdcam.finetune("s3.toml", device="cpu").was_finished


@pytest.mark.parametrize("command", [kdcam.train, kdcam.distill, kdcam.finetune])
def test_one_of_several_processes_is_refused_before_any_work(
    command: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    tables = {
        kdcam.train: {},
        kdcam.distill: {"teacher": {"checkpoint": "t"}, "loss": [{"name": "kd"}]},
        kdcam.finetune: {"init": {"checkpoint": "t"}},
    }
    with pytest.raises(RecipeError, match=r"started as 2 processes .*--nproc-per-node=1"):
        command(small_recipe(**tables[command]), output=tmp_path / "run")  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []
