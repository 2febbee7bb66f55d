"""Pictures of robustness: curves of several runs, a reliability diagram, adversarial examples with their maps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from kdcam.attacks.attack_settings import AnyAttack
from kdcam.blocks.plots import png_bytes
from kdcam.cam.map_pictures import RgbImage, captioned, grid, magnified, overlay, to_picture
from kdcam.cam.maps import minmax_normalize
from kdcam.data.batches.batch import Batch
from kdcam.errors import ModelError
from kdcam.evaluation.robustness.evaluated_images import is_right, logits_of
from kdcam.explanation.class_maps import explain_image, method_for
from kdcam.models.classifier import Classifier
from kdcam.scores.calibration import CalibrationReport, ReliabilityRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito 2008: told apart with any common colour vision; without its yellow, which is faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_LEAST_PIXELS = 160  # of a picture's side


class RobustnessCurve(NamedTuple):
    """One run's line in a picture."""

    name: str
    points: Sequence[tuple[float, float]]  # (horizontal value, share in [0, 1]), from left to right


def draw_robustness_curves(curves: Sequence[RobustnessCurve], *, horizontal: str, vertical: str) -> bytes:
    """Return a PNG of lines, one a run; shares are shown as percentages.

    Args:
        curves: at least one.
        horizontal: what the horizontal axis is, in words.
        vertical: what the shares are, in words.
    """
    from matplotlib.figure import Figure  # lazy: only figures need it, and it is slow to load

    figure = Figure(figsize=(7, 4 + 0.18 * len(curves)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for index, curve in enumerate(curves):
        across, up = zip(*curve.points, strict=True)
        axes.plot(
            across,
            [100 * share for share in up],
            label=curve.name,
            color=_COLOURS[index % len(_COLOURS)],
            linestyle=_DASHES[index // len(_COLOURS) % len(_DASHES)],
            marker="o",
            markersize=3,
        )
    _label(axes, horizontal, f"{vertical} (%)")
    axes.set_ylim(0, 100)
    # Below: beside them long names of runs would leave the axes no width.
    figure.legend(loc="outside lower left", fontsize="small", frameon=False)
    return png_bytes(figure)


def draw_reliability(report: CalibrationReport, *, name: str) -> bytes:
    """Return a PNG of accuracy against confidence, with how many images each bin holds; after temperature scaling, too.

    On the diagonal a classifier is as often right as it is sure; below it is too sure.
    """
    from matplotlib.figure import Figure  # lazy: only figures need it, and it is slow to load

    states = [("as trained", report.before)]
    if report.after is not None and report.temperature is not None:
        states.append((f"at temperature {report.temperature:.3g}", report.after))
    figure = Figure(figsize=(4.5 * len(states), 4.5), dpi=120, layout="constrained")
    figure.suptitle(name, fontsize="medium")
    for axes, (title, state) in zip(figure.subplots(1, len(states), squeeze=False)[0], states, strict=True):
        _draw_bins(axes, state.rows, state.images)
        axes.set_title(f"{title}: ECE {state.ece:.2%}", fontsize="small")
    return png_bytes(figure)


def _draw_bins(axes: "Axes", rows: Sequence[ReliabilityRow], images: int) -> None:
    held = [row for row in rows if row.images]
    middles = [50 * (row.lower + row.upper) for row in rows]
    width = 100 / len(rows)
    axes.bar(
        middles,
        [100 * row.images / images for row in rows],
        width,
        color="#BBBBBB",
        label="images (share)",
    )
    axes.plot([0, 100], [0, 100], color="#000000", linewidth=0.8, linestyle=":")
    axes.plot(
        [100 * (row.confidence or 0) for row in held],
        [100 * (row.accuracy or 0) for row in held],
        color=_COLOURS[0],
        marker="o",
        markersize=4,
        label="accuracy",
    )
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.legend(loc="upper left", fontsize="small", frameon=False)
    _label(axes, "confidence (%)", "accuracy (%)")


def adversarial_examples(classifier: Classifier, batch: Batch, attack: AnyAttack, *, most: int) -> RgbImage:
    """Return a row an image: it and its map of the label, then the attacked one, its map of the label, the change.

    The two maps, and the correlation r of them, show whether the evidence moves or only fades. The change is brought
    to the full range, gray where nothing changed. A network without any map is shown without maps. Images that are
    fooled come first.

    Args:
        classifier: with one label an image.
        batch: images to attack.
        attack: what changes them.
        most: rows.
    """
    found = attack.perturb(classifier, batch.images, batch.targets, batch.indices)
    stands = is_right(classifier, found, batch.targets)
    rows = [
        _example(classifier, batch.images[row].cpu(), found[row].cpu(), int(batch.targets[row]), attack)
        for row in stands.long().argsort(stable=True)[:most].tolist()
    ]
    return grid(rows, gap=4)


def _example(
    classifier: Classifier, before: Tensor, after: Tensor, label: int, attack: AnyAttack
) -> list[RgbImage]:
    name = classifier.class_names[label]
    change = (after - before) / (2 * float((after - before).abs().max().clamp(min=1e-12))) + 0.5
    maps = [_label_map(classifier, image, label) for image in (before, after)]
    row = []
    for image, title, map_ in zip(
        (before, after), ("clean", f"attacked by {attack.label}"), maps, strict=True
    ):
        shown = _large(image)
        row.append(captioned(shown, (title, _said(classifier, image))))
        if map_ is not None:
            moved = "" if image is before else f", r = {_correlation(maps):.2f}"
            row.append(captioned(overlay(shown, minmax_normalize(map_[None])[0]), (f"map{moved}", name)))
    row.append(captioned(_large(change), ("change", f"{attack.norm} eps {attack.eps:.3g}")))
    return row


def _large(image: Tensor) -> RgbImage:
    return magnified(to_picture(image), least=_LEAST_PIXELS)


def _correlation(maps: Sequence[Tensor | None]) -> float:
    flat = torch.stack([map_.flatten().double() for map_ in maps if map_ is not None])
    centred = flat - flat.mean(1, keepdim=True)
    norms = centred.norm(dim=1)
    return float((centred[0] @ centred[1]) / (norms[0] * norms[1]).clamp(min=1e-12))


def _said(classifier: Classifier, image: Tensor) -> str:
    logits = logits_of(classifier, image[None].to(classifier.mean.device))[0]
    top = int(logits.argmax())
    return f"{float(classifier.probabilities(logits)[top]):.0%} {classifier.class_names[top]}"


def _label_map(classifier: Classifier, image: Tensor, label: int) -> Tensor | None:
    """Return the map (h, w) of a label; None of a network that has none."""
    try:
        method = method_for(classifier, "cam")
    except ModelError:
        return None
    maps = explain_image(classifier, image, method=method, label=label, chosen=(label,))
    return maps.class_maps[0].detach().cpu()


def _label(axes: "Axes", horizontal: str, vertical: str) -> None:
    axes.set_xlabel(horizontal)
    axes.set_ylabel(vertical)
    axes.grid(visible=True, alpha=0.3)


__all__ = ["RobustnessCurve", "adversarial_examples", "draw_reliability", "draw_robustness_curves"]
