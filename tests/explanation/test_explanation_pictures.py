"""Tests of kdcam.explanation.explanation_pictures."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import Watcher, three_runs

import kdcam
from kdcam.errors import CheckpointError, DataError, ModelError, RecipeError
from kdcam.explanation.explanation_pictures import MapStyle, check_map_style, panels
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig
from kdcam.runs.checkpoint import save_model


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return three_runs(tmp_path_factory.mktemp("explained"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Pictures named 0 to 3, in the folder `3`, which is a class, and in `strange`, which is none."""
    generator = np.random.default_rng(0)
    for place in ("3/0", "3/1", "strange/1", "strange/2"):
        file = tmp_path / "pictures" / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (20, 24), dtype=np.uint8)).save(file)
    return tmp_path / "pictures"


@pytest.fixture(scope="module")
def without_cam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved network that has a map, but layers between its pooling and its classifier."""
    folder = tmp_path_factory.mktemp("saved") / "mobilenetv3"
    config = ModelConfig(name="mobilenetv3_small_050")
    save_model(folder, build_classifier(config, num_classes=3, in_channels=3, image_size=64))
    return folder


def size(file: Path) -> tuple[int, int]:
    with Image.open(file) as picture:
        return picture.size


def roles(explanation, run: int = 0) -> list[str]:
    return [", ".join(shown.roles) for shown in explanation.runs[run].maps]


def test_a_picture_an_image_with_the_label_from_the_folder(
    runs: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    found = kdcam.explain(runs["one"], [pictures], output=tmp_path / "out", device="cpu")
    assert [one.file.name for one in found] == ["0.png", "3-1.png", "strange-1.png", "2.png"]
    for one in found:
        assert size(one.file)[0] == 4 * 160 + 3 * 4  # input, CAAM, two classes
        (run,) = one.runs
        assert (run.run, run.method) == (runs["one"], "cam")
        labelled = one.image.parent.name == "3"
        assert run.label == ("3" if labelled else None)
        assert roles(one)[0].startswith("label" if labelled else "predicted")
        predicted = kdcam.predict(runs["one"], [one.image], top=1, device="cpu")[0]
        (top,) = (shown for shown in run.maps if "predicted" in shown.roles)
        assert (top.name, top.probability) == (predicted.labels[0], pytest.approx(predicted.scores[0]))
        assert all(shown.low < shown.high for shown in run.maps)


def test_several_runs_are_rows(runs: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    heights = []
    for chosen in (["one"], ["one", "other"], ["one", "other", "labels"]):
        (found,) = kdcam.explain(
            [runs[name] for name in chosen], [pictures / "3" / "0.png"], output=tmp_path / "out", device="cpu"
        )
        assert [run.run for run in found.runs] == [runs[name] for name in chosen]
        heights.append(size(found.file)[1])
    assert heights[2] - heights[1] == heights[1] - heights[0] > 160


def test_several_labels_an_image(runs: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    found = kdcam.explain(runs["labels"], [pictures / "strange"], output=tmp_path, device="cpu")
    for one in found:
        probabilities = {shown.name: shown.probability for shown in one.runs[0].maps}
        assert all(
            (p > 0.5) == ("predicted" in role)
            for p, role in zip(probabilities.values(), roles(one), strict=True)
        )
        assert roles(one) == ["highest"] or len(roles(one)) <= 4


def test_given_classes_and_a_label(runs: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    options = {"output": tmp_path / "out", "device": "cpu"}
    (found,) = kdcam.explain(runs["one"], [pictures / "3" / "0.png"], classes=["7", 2, "7"], **options)
    assert [shown.name for shown in found.runs[0].maps] == ["7", "2"]
    (found,) = kdcam.explain(runs["one"], [pictures / "3" / "0.png"], label="5", **options)
    assert found.runs[0].label == "5"
    assert roles(found)[0].startswith("label")


def test_a_network_without_an_exact_cam(without_cam: Path, pictures: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    (found,) = kdcam.explain(
        without_cam, [pictures / "3" / "0.png"], output=tmp_path / "out", device="cpu", progress=watcher
    )
    assert found.runs[0].method == "gradcam"
    (warning,) = watcher.warnings
    assert warning.endswith("has no exact class activation map, so gradcam is shown instead of cam")
    assert found.runs[0].maps[0].low >= 0


def test_a_map_of_one_place_is_told(pictures: Path, tmp_path: Path) -> None:
    config = ModelConfig(name="resnet10t", pretrained=False)
    save_model(tmp_path / "resnet", build_classifier(config, num_classes=3, in_channels=1, image_size=32))
    watcher = Watcher()
    kdcam.explain(
        tmp_path / "resnet",
        [pictures / "3" / "0.png"],
        output=tmp_path / "out",
        method="gradcam",
        progress=watcher,
    )
    (warning,) = watcher.warnings
    assert "has a map of 1 x 1 for pictures of 32 pixels" in warning


@pytest.mark.parametrize("method", ["gradcam", "hirescam"])
def test_other_methods(runs: dict[str, Path], pictures: Path, tmp_path: Path, method: str) -> None:
    watcher = Watcher()
    (found,) = kdcam.explain(
        runs["one"], [pictures / "3" / "0.png"], output=tmp_path / "out", method=method, progress=watcher
    )
    assert found.runs[0].method == method
    assert watcher.warnings == []


def test_what_was_drawn_goes_to_json(runs: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    (found,) = kdcam.explain(runs["one"], [pictures / "3" / "0.png"], output=tmp_path / "out", device="cpu")
    document = json.loads(json.dumps(found.to_json()))
    assert document["file"] == str(tmp_path / "out" / "0.png")
    (run,) = document["runs"]
    assert run["label"] == "3"
    assert run["maps"][0].keys() == {"class_index", "name", "probability", "roles", "low", "high"}


def test_names_that_are_taken_are_counted_up(runs: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    picture = pictures / "3" / "1.png"
    with Image.open(picture) as pixels:
        for name in ("1.jpg", "1.gif", "../3-1.png"):
            pixels.save(picture.parent / name)
    found = kdcam.explain(runs["one"], [pictures], output=tmp_path / "out", device="cpu")
    files = [one.file for one in found]
    assert len(set(files)) == len(files) == 7
    assert all(file.exists() for file in files)


def test_memory_does_not_grow_with_the_number_of_images(
    runs: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    image = pictures / "3" / "0.png"

    def peak(images: int) -> int:
        tracemalloc.start()
        kdcam.explain(runs["one"], [image] * images, output=tmp_path / "out", device="cpu")
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return taken

    peak(2)
    few, many = peak(5), peak(45)
    assert many - few < 40 * 20_000  # less than a row of pictures each


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "gradcamm"}, RecipeError, "method: found 'gradcamm'; did you mean 'gradcam'"),
        ({"alpha": -0.1}, RecipeError, "alpha: found -0.1"),
        ({"colormap": "rainbows"}, RecipeError, "colormap: found 'rainbows'"),
        ({"scale": "rows"}, RecipeError, "scale: found 'rows'; did you mean 'row'"),
        (
            {"classes": ["ten"]},
            RecipeError,
            r"one: class: found 'ten'; the run's classes are 0, 1, .* from 0 to 9",
        ),
        ({"classes": [10]}, RecipeError, "found '10'"),
        ({"label": "cat"}, RecipeError, "one: label: found 'cat'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    runs: dict[str, Path], pictures: Path, tmp_path: Path, options, error, message: str
) -> None:
    with pytest.raises(error, match=message):
        kdcam.explain(runs["one"], [pictures], output=tmp_path / "out", device="cpu", **options)
    assert not (tmp_path / "out").exists()


def test_bad_pictures_runs_and_places(runs: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (pictures / "broken.png").write_bytes(b"no picture")
    named = [pictures, pictures / "broken.png", tmp_path / "missing.png"]
    with pytest.raises(
        DataError, match=r"2 of 7 files cannot be read as pictures: .*broken\.png.*missing\.png"
    ):
        kdcam.explain(runs["one"], named, output=out)
    with pytest.raises(DataError, match="no picture to explain"):
        kdcam.explain(runs["one"], [], output=out)
    with pytest.raises(CheckpointError, match="nowhere"):
        kdcam.explain(tmp_path / "nowhere", [pictures / "3"], output=out)
    assert not out.exists()
    with pytest.raises(DataError, match=r"0\.png: is one of the images and would be overwritten"):
        kdcam.explain(runs["one"], [pictures / "3" / "0.png"], output=pictures / "3")


def test_a_network_without_a_map_is_refused(pictures: Path, tmp_path: Path) -> None:
    vit = ModelConfig(name="torchvision:vit_b_32")
    save_model(tmp_path / "vit", build_classifier(vit, num_classes=3, in_channels=3, image_size=32))
    with pytest.raises(ModelError, match=r"neither a \(N, C, H, W\) map"):
        kdcam.explain(tmp_path / "vit", [pictures / "3"], output=tmp_path / "out")


@pytest.mark.parametrize("method", ["cam", "hirescam"])
def test_a_network_of_tokens(pictures: Path, tmp_path: Path, method: str) -> None:
    config = ModelConfig(name="test_vit")
    save_model(tmp_path / "vit", build_classifier(config, num_classes=3, in_channels=3, image_size=64))
    watcher = Watcher()
    (found,) = kdcam.explain(
        tmp_path / "vit", [pictures / "3" / "0.png"], output=tmp_path, method=method, progress=watcher
    )
    assert found.runs[0].method == ("gradcam" if method == "cam" else method)
    told = "so gradcam is shown instead of cam, of the tokens that its last attention reads"
    assert [warning.endswith(told) for warning in watcher.warnings] == ([True] if method == "cam" else [])
    assert any(shown.high > shown.low for shown in found.runs[0].maps)


def test_classes_of_imagenet_have_words(pictures: Path, tmp_path: Path) -> None:
    names = ("n01440764", "n02123045", "cat")
    config = ModelConfig(name="kdcam:resnet8")
    network = build_classifier(config, num_classes=3, in_channels=3, image_size=32, label_names=names)
    save_model(tmp_path / "run", network)
    picture = pictures / "3" / "0.png"
    (found,) = kdcam.explain(tmp_path / "run", [picture], classes=names, output=tmp_path / "out")
    assert [shown.name for shown in found.runs[0].maps] == ["tench (n01440764)", "tabby (n02123045)", "cat"]


def test_what_is_neither_a_run_nor_a_network_is_one_line(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^resnet1: there is no such folder or file, and .*resnet1"):
        kdcam.explain("resnet1", [pictures / "3"], output=tmp_path / "out")


IMAGE, AGNOSTIC = torch.rand(1, 40, 40), torch.rand(5, 5)
CAPTIONS = [("cat", "label"), ("dog", "")]


def drawn(maps: torch.Tensor, **style) -> list[np.ndarray]:
    row = panels(
        IMAGE, AGNOSTIC, maps, title=("input", "maps: cam"), captions=CAPTIONS, style=MapStyle(**style)
    )
    return [picture[:, -160:] for picture in row]  # without the captions


def test_the_image_the_caam_and_a_picture_for_each_class() -> None:
    row = drawn(torch.rand(2, 5, 5), alpha=0.5)
    assert len(row) == 4
    assert {picture.shape for picture in row} == {(3, 160, 160)}
    np.testing.assert_array_equal(row[0][:, ::4, ::4], IMAGE.expand(3, -1, -1).numpy())
    assert all(np.abs(picture - row[0]).max() > 0.1 for picture in row[1:])


def test_alpha_zero_is_the_image_alone() -> None:
    row = drawn(torch.rand(2, 5, 5), alpha=0.0)
    for picture in row[1:]:
        np.testing.assert_allclose(picture, row[0], atol=1e-6)


def test_on_one_scale_a_flat_map_looks_flat() -> None:
    maps = torch.stack([torch.rand(5, 5), 0.5 + 0.01 * torch.rand(5, 5)])
    each, row = (drawn(maps, alpha=1.0, scale=scale)[3] for scale in ("each", "row"))
    assert np.ptp(each.mean(axis=0)) > 0.5
    assert np.ptp(row.mean(axis=0)) < 0.05


@pytest.mark.parametrize(
    ("style", "message"),
    [
        (MapStyle(alpha=1.5), r"alpha: found 1.5; allowed: 0 .* to 1"),
        (MapStyle(alpha=float("nan")), "alpha: found nan"),
        (
            MapStyle(colormap="infernoo"),
            r"colormap: found 'infernoo'; did you mean 'inferno'\?; allowed: inferno, magma",
        ),
        (MapStyle(scale="all"), "scale: found 'all'; allowed: each, row"),
    ],
)
def test_what_cannot_be_drawn_is_refused(style: MapStyle, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_map_style(style)
    check_map_style(MapStyle())
