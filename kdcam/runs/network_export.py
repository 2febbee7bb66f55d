"""export: a run's network in a form that other programs load (timm, ONNX, torch.export)."""

import warnings
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from json import dumps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, get_args
from zipfile import ZipFile

import torch
from torch import Tensor

from kdcam.errors import CheckpointError, ModelError, RecipeError
from kdcam.files.atomic_writes import check_writable, make_folder, write_atomically
from kdcam.files.paths import exists, is_folder
from kdcam.models.classifier import Classifier
from kdcam.models.weight_folding import fold_head
from kdcam.models.weights.config_json import timm_architecture
from kdcam.runs.checkpoint import save_model
from kdcam.runs.open_run import Weights, load
from kdcam.runtime.numerics import require_finite_outputs
from kdcam.settings.messages import did_you_mean, listed, reason_text

Format = Literal["timm", "onnx", "torch-export"]

_SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_ONNX_LIMIT = 2**31 - 2**20  # bytes: one ONNX file is one protobuf message
_TOLERANCE = 1e-3  # of the largest logit; other kernels add up in another order
_FACTS_FILE = "kdcam.json"  # in a .pt2


class ExportedNetwork(NamedTuple):
    """What was written."""

    path: Path  # the file, or the folder of the timm format
    format: Format
    images: tuple[int, int, int]  # channels, height and width that the network reads; any number of images
    largest_difference: float  # between the exported network's logits and those expected, on random images
    change: str | None  # what its logits mean that the run's do not; None: they are the same


def export(
    run_or_path: str | Path,
    *,
    format: Format,
    output: str | Path,
    weights: Weights = "selected",
) -> ExportedNetwork:
    """Write a run's network in another form, prove what its logits are, and return what was written.

    - "timm": a folder with model.safetensors and config.json that
      ``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads without kdcam. Its images are normalised
      by the caller, with the mean and std of ``pretrained_cfg``. A head of normalised weights becomes the
      linear layer that picks the same class; where confidences change, `ExportedNetwork.change` says so.
    - "onnx": a file for ONNX runtimes (needs ``pip install "kdcam[onnx]"``), images (batch, C, S, S) in [0, 1]
      in, logits (batch, K) out, the normalisation inside; label names, task and the steps from a picture file to
      the input in the model's metadata (docs/predict_with_onnx.py takes them without kdcam).
    - "torch-export": a .pt2 file for ``torch.export.load``, with the same input and output and without
      anything pickled; label names and task as ``kdcam.json`` among its extra files.

    Args:
        run_or_path: A run folder, a timm folder or a .safetensors file with its config.json.
        format: One of the three.
        output: Where; must not be there yet, or be an empty folder (timm).
        weights: Which epoch's weights.

    Raises:
        RecipeError: The format or the place is wrong, or packages are missing.
        ModelError: The network does not go into this form.
        CheckpointError: The run cannot be loaded, or the output is there already or cannot be written.
    """
    place = Path(output)
    _check_request(format, place)
    classifier, change = load(run_or_path, weights=weights, device="cpu"), None
    if format == "timm":
        classifier, change = fold_head(classifier)
    write = _write_timm_folder if format == "timm" else _write_file
    difference = write(classifier, place, format)
    side = classifier.image_size
    return ExportedNetwork(place, format, (classifier.in_channels, side, side), difference, change)


def network_metadata(classifier: Classifier) -> dict[str, Any]:
    """Return what a user of an exported file needs to know of the network in it."""
    activation = "sigmoid" if classifier.task == "multi-label" else "softmax"
    size = (classifier.in_channels, classifier.image_size, classifier.image_size)
    return {
        "architecture": classifier.config.name,
        "task": classifier.task,
        "label_names": list(classifier.label_names),
        "num_classes": classifier.num_classes,
        "input": f"images (batch, {', '.join(map(str, size))}), float32 in [0, 1], normalised inside",
        "image_size": classifier.image_size,
        "preprocessing": _preprocessing_steps(classifier),
        "output": f"logits (batch, {classifier.num_classes}); {activation} gives probabilities",
        "kdcam_version": version("kdcam"),
    }


def _preprocessing_steps(classifier: Classifier) -> list[str]:
    """Return how a picture file becomes an input of the network, step by step, as `kdcam.predict` does it."""
    size, channels = classifier.image_size, classifier.in_channels
    return [
        "decode the picture at its full size (no reduced decoding of JPEG files); of several frames the first",
        "scale 16-bit gray to 8 bit: 65535 becomes 255",
        "lay transparency over white",
        "turn the picture upright, as its EXIF orientation says",
        "convert it to gray (L)" if channels == 1 else "convert it to RGB",
        "choose the middle square: side = min(width, height), left = (width - side) / 2, top = (height - side) / 2, "
        "halves of pixels included",
        f"resize that square to {size} x {size} pixels: bicubic (a = -0.5) with antialias, as Pillow's "
        f"image.resize(({size}, {size}), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))",
        "round to whole numbers from 0 to 255, as Pillow does",
        "divide by 255",
        f"lay it out as (batch, {channels}, {size}, {size}) float32"
        + ("" if channels == 1 else ", channels in the order red, green, blue"),
        "do not normalise: the network subtracts its mean and divides by its deviation itself",
    ]


def _check_request(format: str, place: Path) -> None:
    if format not in get_args(Format):
        guess = did_you_mean(format, get_args(Format))
        raise RecipeError(f"format: found {format!r}{guess}; allowed: {listed(get_args(Format))}")
    suffix = _SUFFIXES.get(format)
    if suffix is not None and place.suffix != suffix:
        raise RecipeError(f"output: found {str(place)!r}; a file of format {format} ends with {suffix}")
    if exists(place) and not (format == "timm" and is_folder(place) and not any(place.iterdir())):
        raise CheckpointError(f"{place}: is there already; remove it, or name another place with --output")
    missing = [name for name in _ONNX_PACKAGES if format == "onnx" and find_spec(name) is None]
    if missing:
        raise RecipeError(
            f"format: onnx needs the packages {listed(missing)}, which are not installed; "
            'run `pip install "kdcam[onnx]"`, or take --format torch-export'
        )


def _write_timm_folder(classifier: Classifier, place: Path, format: str) -> float:
    """Write the files aside, load them with timm alone, and only then put them in their place."""
    config = classifier.config
    if timm_architecture(config) is None:
        own = (
            f"{config.name!r} is no network of timm's"
            if ":" in config.name
            else "it has a neck, which timm lacks"
        )
        others = [name for name in get_args(Format) if name != format]
        raise ModelError(
            f"format: this network cannot become a timm folder, since {own}; take another format "
            f"({listed(others)})"
        )
    make_folder(place)
    check_writable(place)
    with TemporaryDirectory(prefix=".export-", dir=place) as name:
        aside = Path(name)
        save_model(aside, classifier)
        difference = _difference(classifier, lambda images: _timm_logits(aside, classifier.normalise(images)))
        for file in sorted(aside.iterdir()):
            file.replace(place / file.name)
    return difference


def _timm_logits(folder: Path, normalised: Tensor) -> Tensor:
    import timm  # here: other formats would wait for it

    with torch.random.fork_rng(devices=[]):
        network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    logits: Tensor = network(normalised)
    return logits


def _write_file(classifier: Classifier, place: Path, format: str) -> float:
    make_folder(place.absolute().parent)
    check_writable(place.absolute().parent)
    try:
        program = _traced(classifier)
        data, run = (_onnx if format == "onnx" else _pt2)(classifier, program)
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:  # torch has no family of its own
        raise ModelError(
            f"format: {classifier.config.name!r} cannot be written as {format}: {reason_text(error)}; "
            "take another format"
        ) from error
    difference = _difference(classifier, run)
    write_atomically(place, data)
    return difference


def _traced(classifier: Classifier) -> torch.export.ExportedProgram:
    for parameter in classifier.parameters():  # torch warns of saving others than contiguous ones
        parameter.data = parameter.data.contiguous()
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        classifier, (_random_images(classifier, 2),), dynamic_shapes={"images": {0: batch}}
    )
    program.example_inputs = None  # else a .pt2 holds them pickled
    return program


def _onnx(
    classifier: Classifier, program: torch.export.ExportedProgram
) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    import onnxruntime  # here: an extra that may be missing

    size = sum(tensor.nbytes for tensor in classifier.state_dict().values())
    if size > _ONNX_LIMIT:
        raise ValueError(f"its weights take {size:,} bytes, and one ONNX file holds {_ONNX_LIMIT:,}")
    converted: Any = torch.onnx.export(
        program,
        (_random_images(classifier, 2),),
        dynamo=True,
        dynamic_shapes={"images": {0: "batch"}},  # the program has it already, under a made-up name
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )
    for name, value in network_metadata(classifier).items():
        converted.model.metadata_props[name] = value if isinstance(value, str) else dumps(value)
    data: bytes = converted.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])

    return data, run


def _pt2(
    classifier: Classifier, program: torch.export.ExportedProgram
) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    buffer = BytesIO()
    torch.export.save(program, buffer, extra_files={_FACTS_FILE: dumps(network_metadata(classifier))})
    with ZipFile(buffer) as archive:
        pickled = [
            one.filename for one in archive.infolist() if one.filename.endswith(".pt") and one.file_size
        ]
    if pickled:
        raise ValueError(
            f"torch {torch.__version__} pickles {listed(pickled)} into it; torch 2.9 or later does not"
        )
    with warnings.catch_warnings():
        # torch 2.9 says so of its own reading.
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
        return buffer.getvalue(), torch.export.load(BytesIO(buffer.getvalue())).module()


def _difference(classifier: Classifier, exported: Callable[[Tensor], Tensor]) -> float:
    """Return the largest difference of the logits, for one image and for several; ``ModelError`` where it is large."""
    largest = 0.0
    for count in (1, 3):
        images = _random_images(classifier, count)
        with torch.no_grad():
            expected = classifier(images)
            require_finite_outputs(expected, "export, random images")
            found = exported(images)
        difference = float((found - expected).abs().max())
        if not difference <= _TOLERANCE * max(1.0, float(expected.abs().max())):
            raise ModelError(
                f"format: the exported network's logits differ by {difference:.2g} from those of "
                f"{classifier.config.name!r}; nothing was written, take another format"
            )
        largest = max(largest, difference)
    return largest


def _random_images(classifier: Classifier, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(
        count, classifier.in_channels, classifier.image_size, classifier.image_size, generator=generator
    )


__all__ = ["ExportedNetwork", "Format", "export", "network_metadata"]
