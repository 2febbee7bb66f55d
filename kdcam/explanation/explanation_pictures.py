"""explain: pictures of what runs look at, one file an image, a row of the image and its maps for each run."""

from collections import Counter
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from torch import Tensor
from torch.nn.functional import interpolate

from kdcam.cam.map_pictures import (
    COLORMAP,
    RgbImage,
    captioned,
    grid,
    magnified,
    overlay,
    save_png,
    to_picture,
)
from kdcam.cam.maps import minmax_normalize
from kdcam.data.batches.decoding import read_image
from kdcam.data.sources.picture_files import readable_pictures
from kdcam.errors import DataError, RecipeError
from kdcam.explanation.class_maps import ImageMaps, MapMethod, explain_image, method_for
from kdcam.files.atomic_writes import check_writable, make_folder
from kdcam.files.paths import resolved
from kdcam.models.classifier import Classifier
from kdcam.models.output_readers import SpatialReader, spatial_reader
from kdcam.models.weights.published_networks import readable_names
from kdcam.runs.open_run import Weights, load
from kdcam.runtime.progress import Progress, Silent
from kdcam.settings.messages import did_you_mean, listed

Scale = Literal["each", "row"]
Caption = tuple[str, str]
_USUAL_COLORMAPS = ("inferno", "magma", "viridis", "jet", "... (matplotlib's)")


class MapStyle(NamedTuple):
    """How maps are drawn."""

    alpha: float = 0.5  # 0: the image alone; 1: the map alone
    colormap: str = COLORMAP
    scale: Scale = "each"  # "each": a map spans the colours on its own; "row": the class maps share one scale


class ShownMap(NamedTuple):
    """One class's map in a picture."""

    class_index: int
    name: str
    probability: float  # softmax with one label an image, sigmoid with several
    roles: tuple[str, ...]  # why it is shown: label, predicted, strongest wrong, runner-up, highest, chosen
    low: float  # of the map itself, before it is brought to [0, 1]: a flat map has them close together
    high: float


class RunMaps(NamedTuple):
    """The maps of one run for one image."""

    run: Path
    method: MapMethod  # "gradcam" also where "cam" was asked of a network without an exact CAM
    label: str | None  # the known label, of this run's classes
    maps: tuple[ShownMap, ...]


class Explanation(NamedTuple):
    """One image, the picture made for it, and what is in it."""

    image: Path
    file: Path
    runs: tuple[RunMaps, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything in a form that JSON takes."""
        runs = [
            {**run._asdict(), "run": str(run.run), "maps": [shown._asdict() for shown in run.maps]}
            for run in self.runs
        ]
        return {"image": str(self.image), "file": str(self.file), "runs": runs}


class _Asked(NamedTuple):
    method: MapMethod
    label: str | None
    classes: Sequence[str | int]


class _Run(NamedTuple):
    path: Path
    classifier: Classifier
    names: tuple[str, ...]
    readable: tuple[str, ...]  # the names with words for ImageNet's numbers
    reader: SpatialReader
    method: MapMethod
    label: int | None  # given for all images
    chosen: tuple[int, ...]


def explain(
    runs: str | Path | Sequence[str | Path],
    images: Sequence[str | Path],
    *,
    output: str | Path = "explain",
    method: MapMethod = "cam",
    label: str | None = None,
    classes: Sequence[str | int] = (),
    scale: Scale = "each",
    alpha: float = 0.5,
    colormap: str = COLORMAP,
    weights: Weights = "selected",
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Explanation]:
    """Return what was drawn: one PNG an image, with the image, the CAAM and class maps in a row for each run.

    Shown are the maps of the label, where it is known, and of the strongest wrong class, else of the prediction
    and the runner-up. With several labels an image: of those predicted present, at most four, or the highest.

    Args:
        runs: What `kdcam.load` reads, or several, one a row: run folders, .safetensors files beside their config.json,
            names of networks with published weights.
        images: Picture files; a folder stands for the pictures below it: other files in it are left out, and those that
            cannot be read, with a warning.
        output: The folder for the PNG files, named as the images; files of these names are replaced.
        method: "cam" (becomes "gradcam" for a network without an exact CAM), "gradcam" or "hirescam"; of a network of
            tokens they are of its last grid of tokens (`kdcam.models.output_readers`).
        label: The label of all images; by default that of an image in a folder named as a class.
        classes: These classes instead, by name or index.
        scale, alpha, colormap: See `kdcam.explanation.explanation_pictures.MapStyle`.
        weights: Which epoch's weights of each run.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        progress: Who watches.

    Raises ``RecipeError`` for an option or class, ``DataError`` for a picture that is unreadable or would be
    overwritten, ``ModelError`` for a network without a map, ``CheckpointError`` for a run or an output.
    """
    watcher = progress or Silent()
    style = MapStyle(alpha, colormap, scale)
    check_map_style(style)
    _check_method(method)
    paths = readable_pictures(images, progress=watcher)
    files = _files(paths, Path(output))
    asked = _Asked(method, label, classes)
    run_paths = [runs] if isinstance(runs, str | Path) else runs
    opened = [_open_run(load(run, weights=weights, device=device), run, asked, watcher) for run in run_paths]
    make_folder(Path(output))
    check_writable(Path(output))
    found = []
    for path, file in zip(paths, files, strict=True):
        found.append(_explain_one(path, file, opened, style))
        watcher.advance("explaining", len(found), len(paths))
    return found


def check_map_style(style: MapStyle) -> None:
    """Raise ``RecipeError`` where maps cannot be drawn so."""
    from matplotlib import colormaps  # slow to import: only those who draw wait

    if style.scale not in get_args(Scale):
        guess = did_you_mean(style.scale, get_args(Scale))
        raise RecipeError(f"scale: found {style.scale!r}{guess}; allowed: {listed(get_args(Scale))}")
    if style.colormap not in colormaps:
        guess = did_you_mean(style.colormap, colormaps)
        raise RecipeError(f"colormap: found {style.colormap!r}{guess}; allowed: {listed(_USUAL_COLORMAPS)}")
    if not 0 <= style.alpha <= 1:
        raise RecipeError(f"alpha: found {style.alpha:g}; allowed: 0 (the image alone) to 1 (the map alone)")


def _check_method(method: str) -> None:
    if method not in get_args(MapMethod):
        guess = did_you_mean(method, get_args(MapMethod))
        raise RecipeError(f"method: found {method!r}{guess}; allowed: {listed(get_args(MapMethod))}")


def _files(paths: Sequence[Path], output: Path) -> list[Path]:
    """Return a file for each image: its name, with its folder's before it where two have one name.

    Raises ``DataError`` where there is no image, or where one of the files is itself an image to explain.
    """
    if not paths:
        raise DataError("no picture to explain; name picture files or a folder of pictures")
    stems = Counter(path.stem for path in paths)
    taken: set[Path] = set()
    files: list[Path] = []
    for path in paths:
        name = path.stem if stems[path.stem] == 1 else f"{path.absolute().parent.name}-{path.stem}"
        names = (f"{name}{'' if number == 1 else f'-{number}'}.png" for number in count(1))
        files.append(next(output / one for one in names if output / one not in taken))
        taken.add(files[-1])
    images = {resolved(path) for path in paths}
    for file in files:
        if resolved(file) in images:
            raise DataError(f"{file}: is one of the images and would be overwritten; name another --output")
    return files


def _open_run(classifier: Classifier, path: str | Path, asked: _Asked, progress: Progress) -> _Run:
    names = classifier.class_names
    chosen = [_class_index(one, names, place=f"{path}: class") for one in asked.classes]
    known = None if asked.label is None else _class_index(asked.label, names, place=f"{path}: label")
    method, reader = method_for(classifier, asked.method), spatial_reader(classifier)
    if method != asked.method:
        of = "" if reader.what is None else f", of {reader.what}"
        progress.warning(
            f"{path}: {classifier.config.name} has no exact class activation map, so {method} is shown instead of "
            f"{asked.method}{of}"
        )
    if reader.height == reader.width == 1:
        progress.warning(
            f"{path}: {classifier.config.name} has a map of 1 x 1 for pictures of {classifier.image_size} pixels, "
            "so its maps are even and show no location; train it on larger pictures"
        )
    readable = readable_names(names)
    return _Run(Path(path), classifier, names, readable, reader, method, known, tuple(dict.fromkeys(chosen)))


def _class_index(asked: str | int, names: Sequence[str], *, place: str) -> int:
    if isinstance(asked, str) and asked in names:
        return names.index(asked)
    text = str(asked)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise RecipeError(
        f"{place}: found {text!r}{did_you_mean(text, names)}; the run's classes are {listed(names[:20])}"
        f"{' ...' if len(names) > 20 else ''} (a name, or an index from 0 to {len(names) - 1})"
    )


def _explain_one(path: Path, file: Path, runs: Sequence[_Run], style: MapStyle) -> Explanation:
    rows, shown_runs = [], []
    for run in runs:
        size, channels = run.classifier.image_size, run.classifier.in_channels
        image = read_image(path, image_size=size, channels=channels).float() / 255
        label = run.label
        if label is None and path.absolute().parent.name in run.names:
            label = run.names.index(path.absolute().parent.name)
        maps = explain_image(
            run.classifier,
            image,
            method=run.method,
            label=label,
            chosen=run.chosen,
            reader=run.reader,
            place=f"{run.path}: {path}",
        )
        shown = _described(maps, run.readable)
        name = None if label is None else run.names[label]
        shown_runs.append(RunMaps(run.path, run.method, name, shown))
        title = ("input" if len(runs) == 1 else run.path.absolute().name, f"maps: {run.method}")
        # The probability first: a long name is cut off at the picture's width.
        captions = [(f"{one.probability:.1%} | {one.name}", ", ".join(one.roles)) for one in shown]
        # What speaks against a class is not drawn of HiResCAM, as its paper and grad-cam have it.
        class_maps = maps.class_maps.relu() if run.method == "hirescam" else maps.class_maps
        rows.append(panels(image, maps.caam, class_maps, title=title, captions=captions, style=style))
    save_png(grid(rows, gap=4), file)
    return Explanation(path, file, tuple(shown_runs))


def _described(maps: ImageMaps, names: Sequence[str]) -> tuple[ShownMap, ...]:
    return tuple(
        ShownMap(
            one.class_index,
            names[one.class_index],
            float(maps.probabilities[one.class_index]),
            one.roles,
            float(map_.min()),
            float(map_.max()),
        )
        for one, map_ in zip(maps.shown, maps.class_maps, strict=True)
    )


def panels(
    image: Tensor,
    agnostic: Tensor,
    class_maps: Tensor,
    *,
    title: Caption,
    captions: Sequence[Caption],
    style: MapStyle,
) -> list[RgbImage]:
    """Return the image and the image under each map, each with two lines of text above it.

    Args:
        image: (C, S, S) in [0, 1].
        agnostic: (h, w), the CAAM, of any scale.
        class_maps: (K, h, w), of any scale.
        title: the image's caption.
        captions: of the class maps.
        style: how they are drawn.
    """
    base = magnified(to_picture(image))
    size = base.shape[1], base.shape[2]
    drawn = [
        (drawn_maps(agnostic[None], size=size)[0], ("CAAM", "")),
        *zip(drawn_maps(class_maps, size=size, scale=style.scale), captions, strict=True),
    ]
    row = [captioned(base, title)]
    for map_, lines in drawn:
        row.append(captioned(overlay(base, map_, alpha=style.alpha, colormap=style.colormap), lines))
    return row


def drawn_maps(maps: Tensor, *, size: tuple[int, int], scale: Scale = "each") -> Tensor:
    """Return maps (K, h, w) as they are coloured: (K, H, W) in [0, 1], brought to the picture's size bilinearly.

    Only then to [0, 1], as jacobgil/pytorch-grad-cam does, whose arrays these are where ``scale`` is "each": between
    its positions a small map does not reach its lowest and highest value.
    """
    large = interpolate(maps[None].float(), size, mode="bilinear", align_corners=False)[0]
    if scale == "each":
        return minmax_normalize(large)
    return minmax_normalize(large.flatten(0, 1)).view_as(large)  # as one tall map


__all__ = [
    "Caption",
    "Explanation",
    "MapStyle",
    "RunMaps",
    "Scale",
    "ShownMap",
    "check_map_style",
    "drawn_maps",
    "explain",
    "panels",
]
