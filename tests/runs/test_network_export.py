"""Tests of kdcam.runs.network_export: other programs load what is written and give the same logits."""

import json
import subprocess
import sys
import zipfile
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from long_tests import in_long
from PIL import Image
from torch import Tensor

from kdcam.api import predict
from kdcam.errors import CheckpointError, ModelError, RecipeError
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.runs.checkpoint import load_classifier, save_model
from kdcam.runs.network_export import export, network_metadata

NAMES = ("cat", "dog", "Kuh")


def saved(folder: Path, name: str, *, task: str = "single-label", channels: int = 3, **keys) -> Path:
    """Save a network with BatchNorm statistics of its own, as after training."""
    torch.manual_seed(0)
    config = ModelConfig(name=name, mean=(0.4,), std=(0.2,), **keys)
    classifier = build_classifier(
        config, num_classes=3, in_channels=channels, image_size=64, label_names=NAMES, task=task
    )
    with torch.no_grad():
        classifier.train()(torch.rand(8, channels, 64, 64))
    save_model(folder / "run", classifier)
    return folder / "run"


def images_and_logits(run: Path, count: int = 5) -> tuple[Classifier, Tensor, Tensor]:
    classifier = load_classifier(run)
    images = torch.rand(count, classifier.in_channels, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return classifier, images, classifier(images)


@pytest.mark.parametrize(
    ("name", "channels"), [("resnet18", 3), ("mobilenetv3_small_050", 1), ("vit_tiny_patch16_224", 3)]
)
def test_a_timm_folder_loads_in_timm_alone(tmp_path: Path, name: str, channels: int) -> None:
    import timm

    run = saved(tmp_path, name, channels=channels)
    random_state = torch.get_rng_state()
    done = export(run, format="timm", output=tmp_path / "new" / "timm")
    assert torch.equal(torch.get_rng_state(), random_state)
    assert done.images == (channels, 64, 64)
    assert sorted(path.name for path in done.path.iterdir()) == ["config.json", "model.safetensors"]
    assert [path.name for path in done.path.parent.iterdir()] == ["timm"]  # nothing is left aside
    network = timm.create_model(f"local-dir:{done.path}", pretrained=True).eval()
    classifier, images, logits = images_and_logits(run)
    with torch.no_grad():
        torch.testing.assert_close(network(classifier.normalise(images)), logits, rtol=1e-5, atol=1e-5)
    assert list(network.pretrained_cfg["mean"]) == [0.4] * channels
    assert json.loads((done.path / "config.json").read_text())["label_names"] == list(NAMES)


def test_several_labels_survive_a_timm_folder(tmp_path: Path) -> None:
    run = saved(tmp_path, "resnet18", task="multi-label")
    export(run, format="timm", output=tmp_path / "timm")
    assert load_classifier(tmp_path / "timm").task == "multi-label"


@pytest.mark.parametrize(
    ("name", "keys", "reason"),
    [
        ("kdcam:resnet8", {}, "'kdcam:resnet8' is no network of timm's"),
        ("torchvision:mobilenet_v2", {}, "is no network of timm's"),
        ("resnet18", {"channel_attention": True}, "it has a neck, which timm lacks"),
    ],
)
def test_what_timm_cannot_build_is_refused_with_the_reason(
    tmp_path: Path, name: str, keys, reason: str
) -> None:
    run = saved(tmp_path, name, **keys)
    with pytest.raises(ModelError, match=rf"{reason}; take another format \(onnx, torch-export\)"):
        export(run, format="timm", output=tmp_path / "timm")
    assert not (tmp_path / "timm").exists()


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("kdcam:resnet8", {}),
        ("kdcam:resnet8", {"channel_attention": True, "feature_channels": 12}),
        in_long("torchvision:mobilenet_v2", {}),
        in_long("vit_tiny_patch16_224", {}),
    ],
)
def test_a_pt2_file_takes_any_number_of_images(tmp_path: Path, name: str, keys) -> None:
    run = saved(tmp_path, name, task="multi-label", **keys)
    done = export(run, format="torch-export", output=tmp_path / "model.pt2")
    extra = {"kdcam.json": ""}
    program = torch.export.load(done.path, extra_files=extra)
    for count in (1, 5):
        classifier, images, logits = images_and_logits(run, count)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(images), logits, rtol=1e-5, atol=1e-5)
    told = json.loads(extra["kdcam.json"])
    assert told == network_metadata(classifier)
    assert (told["task"], told["label_names"]) == ("multi-label", list(NAMES))


def test_nothing_in_a_pt2_file_is_pickled(tmp_path: Path) -> None:
    done = export(saved(tmp_path, "kdcam:resnet8"), format="torch-export", output=tmp_path / "model.pt2")
    with zipfile.ZipFile(done.path) as archive:
        for member in archive.infolist():
            content = archive.read(member)
            if member.filename.endswith(".pt") or "sample_inputs" in member.filename:
                assert content == b""
            assert not content.startswith(b"PK")  # what torch.save writes


@pytest.mark.parametrize(
    ("name", "task"), [("kdcam:resnet8", "single-label"), in_long("resnet18", "multi-label")]
)
def test_an_onnx_file_gives_the_same_logits(tmp_path: Path, name: str, task: str) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    onnxruntime = pytest.importorskip("onnxruntime")
    run = saved(tmp_path, name, task=task)
    done = export(run, format="onnx", output=tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    assert (session.get_inputs()[0].shape[0], session.get_outputs()[0].shape[0]) == ("batch", "batch")
    for count in (1, 5):
        _, images, logits = images_and_logits(run, count)
        (found,) = session.run(["logits"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), logits, rtol=1e-4, atol=1e-4)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["label_names"]) == list(NAMES)
    assert told["task"] == task
    assert "in [0, 1], normalised inside" in told["input"]
    steps = json.loads(told["preprocessing"])
    for word in (
        "full size",
        "white",
        "upright",
        "RGB",
        "middle square",
        "64 x 64",
        "bicubic",
        "divide by 255",
    ):
        assert word in str(steps)


def photos(folder: Path) -> list[Path]:
    """Write pictures of the kinds that programs read otherwise: large JPEGs, gray, alpha, palette, turned ones."""
    rng = np.random.default_rng(0)

    def photo(width: int, height: int, bands: int = 3) -> Image.Image:
        shape = () if bands == 1 else (bands,)
        coarse = rng.integers(0, 256, (height // 50, width // 50, *shape), dtype=np.uint8)
        pixels = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noise = rng.integers(-40, 41, (height, width, *shape))
        return Image.fromarray(np.clip(np.asarray(pixels) + noise, 0, 255).astype(np.uint8))

    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "large.jpg": (photo(3000, 2000), {"quality": 92}),
        "upright.jpg": (photo(1001, 1502), {}),
        "gray.jpg": (photo(1600, 1200, 1), {}),
        "turned.jpg": (photo(1200, 801), {"exif": turned}),
        "wide.png": (photo(2000, 303), {}),
        "small.png": (photo(57, 61), {}),
        "alpha.png": (photo(400, 300, 4), {}),
        "palette.gif": (photo(300, 200).quantize(64), {"transparency": 3}),
        "cmyk.jpg": (photo(500, 400).convert("CMYK"), {}),
        "lossy.webp": (photo(900, 700), {}),
    }
    for name, (image, options) in kinds.items():
        image.save(folder / name, **options)
    return [folder / name for name in kinds]


@pytest.mark.parametrize(("channels", "task"), [(1, "multi-label"), in_long(3, "single-label")])
def test_a_program_without_kdcam_gives_the_probabilities_of_predict(
    tmp_path: Path, channels: int, task: str
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    run, pictures = saved(tmp_path, "kdcam:resnet8", task=task, channels=channels), photos(tmp_path)
    done = export(run, format="onnx", output=tmp_path / "model.onnx")
    script = Path(__file__).parents[2] / "docs" / "predict_with_onnx.py"
    code = f"import sys, runpy; sys.argv[1:] = {[str(done.path), *map(str, pictures)]!r};"
    code += f"runpy.run_path({str(script)!r}, run_name='__main__'); assert 'torch' not in sys.modules"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    predictions = predict(run, pictures, top=3, device="cpu")
    for line, prediction in zip(printed.splitlines(), predictions, strict=True):
        expected = dict(zip(prediction.labels, prediction.scores, strict=True))
        assert json.loads(line)["probabilities"] == pytest.approx(expected, abs=1e-4), prediction.image
    assert (
        len({round(max(prediction.scores), 3) for prediction in predictions}) > 5
    )  # they do tell pictures apart


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = saved(tmp_path, "kdcam:resnet8")
    found = util.find_spec
    monkeypatch.setattr(
        "kdcam.runs.network_export.find_spec", lambda name: None if name == "onnxscript" else found("json")
    )
    with pytest.raises(RecipeError, match=r'packages onnxscript, .*pip install "kdcam\[onnx\]"'):
        export(run, format="onnx", output=tmp_path / "model.onnx")


def test_what_is_there_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = saved(tmp_path, "resnet18")
    (tmp_path / "model.pt2").write_text("mine")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    export(run, format="timm", output=".")  # an empty folder holds nothing to lose
    assert sorted(file.name for file in (tmp_path / "folder").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    for format, output in (("torch-export", "model.pt2"), ("timm", "folder"), ("timm", "model.pt2")):
        with pytest.raises(CheckpointError, match=r"is there already; .* --output"):
            export(run, format=format, output=tmp_path / output)
    assert (tmp_path / "model.pt2").read_text() == "mine"


def test_wrong_requests(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"format: found 'onxx'; did you mean 'onnx'.*; allowed: timm, onnx, torch-export"
    ):
        export(tmp_path, format="onxx", output=tmp_path / "x")
    with pytest.raises(RecipeError, match=r"output: found '.*model'; a file of format onnx ends with \.onnx"):
        export(tmp_path, format="onnx", output=tmp_path / "model")
    with pytest.raises(RecipeError, match=r"ends with \.pt2"):
        export(tmp_path, format="torch-export", output=tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="nowhere"):
        export(tmp_path / "nowhere", format="timm", output=tmp_path / "x")


def test_other_logits_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = saved(tmp_path, "kdcam:resnet8")
    module = sys.modules["kdcam.runs.network_export"]
    monkeypatch.setattr(
        module, "_pt2", lambda classifier, program: (b"", lambda images: classifier(images) + 1)
    )
    with pytest.raises(
        ModelError, match=r"logits differ by 1 from those of 'kdcam:resnet8'; nothing was written"
    ):
        export(run, format="torch-export", output=tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()


def test_a_network_that_cannot_be_traced_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_, **__):
        raise RuntimeError("data-dependent branch\nmany more lines")

    run = saved(tmp_path, "kdcam:resnet8")
    monkeypatch.setattr(torch.export, "export", fails)
    with pytest.raises(
        ModelError, match=r"cannot be written as torch-export: data-dependent branch; take another"
    ):
        export(run, format="torch-export", output=tmp_path / "model.pt2")


def test_a_cosine_head_becomes_a_linear_layer_and_the_change_is_told(tmp_path: Path) -> None:
    import timm

    run = saved(tmp_path, "resnet10t", head="cosine", scale=16.0)
    done = export(run, format="timm", output=tmp_path / "timm")
    assert done.change is not None
    assert "top-1 is the same, confidences and" in done.change
    network = timm.create_model(f"local-dir:{done.path}", pretrained=True).eval()
    classifier, images, logits = images_and_logits(run, 16)
    with torch.no_grad():
        plain = network(classifier.normalise(images))
    assert torch.equal(plain.argmax(1), logits.argmax(1))
    assert not torch.allclose(plain, logits, rtol=0.1)


@pytest.mark.parametrize("kind", ["unit-weight", "gaussian"])
def test_other_heads_become_a_linear_layer_with_the_same_logits(tmp_path: Path, kind: str) -> None:
    import timm

    run = saved(tmp_path, "resnet10t", head=kind)
    done = export(run, format="timm", output=tmp_path / "timm")
    assert done.change is None
    network = timm.create_model(f"local-dir:{done.path}", pretrained=True).eval()
    classifier, images, logits = images_and_logits(run)
    with torch.no_grad():
        torch.testing.assert_close(network(classifier.normalise(images)), logits, rtol=1e-4, atol=1e-4)


def test_a_cosine_head_goes_into_a_traced_file_as_it_is(tmp_path: Path) -> None:
    run = saved(tmp_path, "kdcam:resnet8", head="cosine")
    done = export(run, format="torch-export", output=tmp_path / "net.pt2")
    assert done.change is None
    _, images, logits = images_and_logits(run)
    torch.testing.assert_close(torch.export.load(done.path).module()(images), logits, rtol=1e-4, atol=1e-4)
