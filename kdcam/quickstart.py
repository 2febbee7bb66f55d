"""The quickstart: a teacher with CAM-loss, a student distilled from it, both scored, attacked and pictured."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from kdcam.api import distill, train
from kdcam.cam.map_pictures import RgbImage, grid, overlay, save_png, to_picture
from kdcam.cam.maps import caam, minmax_normalize, target_cam
from kdcam.evaluation.localization.localization_measurement import PointingScores, pointing_scores
from kdcam.evaluation.robustness.robustness_evaluation import evaluate_robustness
from kdcam.evaluation.robustness.robustness_file import RunRobustness
from kdcam.recipe.train_recipe import load_recipe
from kdcam.runs.open_run import LoadedRun, load_run
from kdcam.runtime.progress import Progress, Silent
from kdcam.training.training_run import RunResult

ATTACKED_IMAGES = 200  # enough for a first look; `kdcam evaluate-robustness` takes 1,000
PICTURED_IMAGES = 8
ENLARGED = 3  # times, so that a 48-pixel scene can be looked at

Result = TypeVar("Result")


class QuickstartRow(NamedTuple):
    """One network of the quickstart."""

    name: str
    run: RunResult
    pointing: PointingScores
    robustness: RunRobustness


class QuickstartResult(NamedTuple):
    """What the quickstart found."""

    rows: tuple[QuickstartRow, ...]
    picture: Path
    seconds: dict[str, float]  # of each stage


def run_quickstart(
    output: Path, *, device: str = "auto", command: Sequence[str] = (), progress: Progress | None = None
) -> QuickstartResult:
    """Train a teacher and a student on digit scenes below ``output``, and score, attack and picture both.

    What is there already is not done again. Raises ``KdcamError`` subclasses as `kdcam.train` does.
    """
    watcher = progress or Silent()
    seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Result]) -> Result:
        start = time.monotonic()
        watcher.message(f"{stage} ...")
        result = work()
        seconds[stage] = round(time.monotonic() - start, 1)
        return result

    teacher_path, student_path = output / "teacher", output / "student"
    student_recipe = load_recipe("quickstart/student", [f'teacher.checkpoint="{teacher_path.as_posix()}"'])
    runs = {
        "teacher": timed(
            "teacher: cross_entropy + cam",
            lambda: train(
                "quickstart/teacher", output=teacher_path, device=device, command=command, progress=watcher
            ),
        ),
        "student": timed(
            "student: cross_entropy + kd + caam_cam",
            lambda: distill(
                student_recipe, output=student_path, device=device, command=command, progress=watcher
            ),
        ),
    }
    robustness = timed(
        "robustness: fgsm and pgd-10",
        lambda: evaluate_robustness(
            [run.path for run in runs.values()],
            settings={"n_examples": ATTACKED_IMAGES},
            device=device,
            progress=watcher,
        ),
    )
    loaded = [load_run(run.path, device=device) for run in runs.values()]
    pointing = timed("pointing game", lambda: [_pointing(run) for run in loaded])
    picture = output / "figures" / "cams.png"
    timed("pictures", lambda: save_png(cam_picture(loaded), picture))
    rows = zip(runs, runs.values(), pointing, robustness, strict=True)
    return QuickstartResult(tuple(QuickstartRow(*row) for row in rows), picture, seconds)


def _pointing(loaded: LoadedRun) -> PointingScores:
    test = loaded.part("test")
    assert test.boxes is not None  # digit scenes carry them
    return pointing_scores(loaded.classifier, loaded.batches(test), test.boxes)


def cam_picture(runs: Sequence[LoadedRun]) -> RgbImage:
    """Return a grid of the first test images: the image, then each run's CAM of the label and its CAAM."""
    test = runs[0].part("test")
    batch = next(iter(runs[0].batches(test, batch_size=PICTURED_IMAGES).epoch(0)))
    maps = [pair for run in runs for pair in _maps(run, batch.images, batch.targets)]
    return grid(
        [
            [_enlarged(to_picture(image)), *(_enlarged(overlay(image, of_run[row])) for of_run in maps)]
            for row, image in enumerate(batch.images)
        ],
        gap=6,
    )


def _maps(run: LoadedRun, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        outputs = run.classifier.outputs(images)
    assert outputs.feature_map is not None and outputs.weight is not None  # noqa: PT018  # both quickstart networks
    label_cam = target_cam(outputs.feature_map, outputs.weight, targets)
    return minmax_normalize(label_cam), minmax_normalize(caam(outputs.feature_map))


def _enlarged(picture: RgbImage) -> RgbImage:
    return picture.repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)


__all__ = ["QuickstartResult", "QuickstartRow", "cam_picture", "run_quickstart"]
