"""What lies in a run folder, as a report needs it: records, result files, pictures; read without torch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kdcam.blocks.document import CaptionedPicture, Note, Section
from kdcam.comparison.table.output_folder import COMPARISON_FILE
from kdcam.errors import CheckpointError
from kdcam.files.digests import weights_file_digest
from kdcam.files.json_files import layout_errors, read_json
from kdcam.files.paths import exists, is_file, is_folder
from kdcam.files.weight_location import MODEL_FILE
from kdcam.runs.run_files import (
    FIGURES_FOLDER,
    RECIPE_FILE,
    RESULT_FILE,
    figure_file,
    find_state,
    read_metrics,
)
from kdcam.scores.main_scores import MAIN_SCORES
from kdcam.settings.messages import reason_text

_PNG_START = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class ReportedRun:
    """What lies in a run folder."""

    name: str  # in the report
    folder: Path
    record: dict[str, Any]  # recipe.json
    result: dict[str, Any] | None  # result.json; None: the run is not finished
    epochs: tuple[dict[str, Any], ...]  # the lines of metrics.jsonl

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as resolved."""
        recipe: dict[str, Any] = self.record["recipe"]
        return recipe

    @property
    def score(self) -> str:
        """The score that the run is judged by: "acc1" or "mean_ap"."""
        return MAIN_SCORES[self.recipe["task"]]


class ResultFile(NamedTuple):
    """A result file of one run."""

    run: str  # its name in the report
    folder: Path
    content: dict[str, Any]


def is_comparison(folder: Path) -> bool:
    """Return whether a folder is one that `kdcam compare` writes."""
    return is_file(folder / COMPARISON_FILE)


def check_reported_folder(folder: Path) -> None:
    """Raise ``CheckpointError`` where a path is neither the folder of a run nor that of a comparison."""
    if not is_folder(folder):
        what = "is a file" if exists(folder) else "there is no such folder"
        raise CheckpointError(f"{folder}: {what}; name the folder of a run or of a comparison")
    if not is_comparison(folder) and find_state(folder) == "new":
        raise CheckpointError(
            f"{folder}: holds neither a run ({RECIPE_FILE}) nor a comparison ({COMPARISON_FILE}); name a folder that "
            "`kdcam train`, `kdcam distill` or `kdcam compare` made"
        )


def read_reported(folder: Path, name: str) -> ReportedRun:
    """Return what lies in a run folder, finished or not.

    Raises ``CheckpointError`` where a file is damaged or of another layout.
    """
    finished = find_state(folder) == "finished"
    run = ReportedRun(
        name=name,
        folder=folder,
        record=read_json(folder / RECIPE_FILE),
        result=read_json(folder / RESULT_FILE) if finished else None,
        epochs=tuple(read_metrics(folder)),
    )
    with layout_errors(folder / RECIPE_FILE):
        if not (isinstance(run.recipe["epochs"], int) and isinstance(run.score, str)):
            raise TypeError("epochs is no whole number")
    return run


def outdated_notes(found: Sequence[ResultFile]) -> Iterator[Note]:
    """Yield a warning for each run whose file is of other weights than the selected ones in its folder."""
    for one in found:
        digest = weights_file_digest(one.folder / MODEL_FILE)
        if digest is not None and one.content["model"] != digest:
            which = (
                "of the last epoch, as asked for"
                if one.content.get("weights") == "last"
                else "of an earlier run; run the evaluation again"
            )
            yield Note(
                f"{one.run}: of other weights than those selected now ({MODEL_FILE}): {which}",
                warning=True,
            )


def run_pictures(
    found: Sequence[ResultFile], captions: Mapping[str, str], *, named: bool
) -> Iterator[CaptionedPicture]:
    """Yield the pictures of runs' figures/ that are there, run by run.

    Args:
        found: of the runs.
        captions: what a picture shows, by its file's name.
        named: whether the caption names the run, as where the report shows several.

    Raises ``CheckpointError`` for a file that is no PNG picture.
    """
    for one in found:
        for name, caption in captions.items():
            path = figure_file(one.folder, name)
            if is_file(path):
                yield read_picture(path, f"{one.run}: {caption}" if named else caption)


def read_picture(path: Path, caption: str) -> CaptionedPicture:
    """Return the picture in a file; ``CheckpointError`` where it is no whole PNG picture."""
    try:
        png = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({reason_text(error)})") from error
    if not png.startswith(_PNG_START) or b"IEND" not in png[-16:]:
        raise CheckpointError(f"{path}: is no whole PNG picture; make it anew, or remove it")
    return CaptionedPicture(png=png, alt=caption, caption=caption, source=path)


def other_pictures(runs: Sequence[tuple[str, Path]], sections: Iterable[Section]) -> Section:
    """Return the pictures in the figures/ of runs (name, folder) that no section shows."""
    shown = {
        block.source
        for section in sections
        for block in section.blocks
        if isinstance(block, CaptionedPicture)
    }
    blocks = []
    for name, folder in runs:
        for path in sorted((folder / FIGURES_FOLDER).glob("*.png")):
            if path not in shown:
                caption = path.stem.replace("-", " ").replace("_", " ")
                blocks.append(read_picture(path, caption if len(runs) == 1 else f"{name}: {caption}"))
    return Section("Pictures", tuple(blocks))


__all__ = [
    "ReportedRun",
    "ResultFile",
    "check_reported_folder",
    "is_comparison",
    "other_pictures",
    "outdated_notes",
    "read_picture",
    "read_reported",
    "run_pictures",
]
