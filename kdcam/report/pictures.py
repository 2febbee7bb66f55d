"""The pictures that other commands drew into a run's figures/."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kdcam.blocks.document import CaptionedPicture, Section
from kdcam.errors import CheckpointError
from kdcam.files.paths import is_file

FIGURES = "figures"
_PNG_START = b"\x89PNG\r\n\x1a\n"


def read_run_picture(
    folder: Path, file: str, caption: str, *, run: str | None = None
) -> Iterator[CaptionedPicture]:
    """Yield a picture of a run's figures/, where it is there.

    Args:
        folder: of the run.
        file: the picture's name.
        caption: what it shows.
        run: the run's name, where the report shows several.

    Raises ``CheckpointError`` for a file that is no PNG picture.
    """
    path = folder / FIGURES / file
    if is_file(path):
        yield read_picture(path, caption if run is None else f"{run}: {caption}")


def read_picture(path: Path, caption: str) -> CaptionedPicture:
    """Return the picture in a file; ``CheckpointError`` where it is no whole PNG picture."""
    try:
        png = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
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
        for path in sorted((folder / FIGURES).glob("*.png")):
            if path not in shown:
                caption = path.stem.replace("-", " ").replace("_", " ")
                blocks.append(read_picture(path, caption if len(runs) == 1 else f"{name}: {caption}"))
    return Section("Pictures", tuple(blocks))


__all__ = ["FIGURES", "other_pictures", "read_picture", "read_run_picture"]
