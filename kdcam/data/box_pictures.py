"""Which picture a line of a file of boxes is of."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from kdcam.data.box_files import BoxLine
from kdcam.errors import DataError
from kdcam.files.folder_listing import files_below
from kdcam.files.paths import expanded, is_file, path_below

_SHOWN = 80  # characters of a name in a message


class PartPictures:
    """The positions of a part's pictures, by path and by name."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.by_path = {plain_path(path): index for index, path in enumerate(paths)}
        self.by_name: dict[str, list[int]] = defaultdict(list)
        for index, path in enumerate(paths):
            self.by_name[path.name].append(index)
        self.paths = paths

    def position(self, line: BoxLine, root: Path) -> int | None:
        """Return the position of a box's picture; None: it is not in the part.

        Raises ``DataError`` where a path leads nowhere.
        """
        if not line.by_name:
            index = self.by_path.get(plain_path(expanded(root) / line.picture))
            if index is None:
                existing_picture(line, expanded(root))  # of another part, or nowhere: then it is an error
            return index
        alike = self.by_name.get(line.picture, [])
        if len(alike) > 1:
            alike = [index for index in alike if self.paths[index].parent.name == line.class_name]
        return alike[0] if alike else None


class FolderPictures:
    """Pictures below a folder by name; the folder is listed at the first question."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.found: dict[str, list[Path]] | None = None

    def path(self, line: BoxLine) -> Path:
        """Return the picture of a box; of several of one name that in the folder named as the class.

        Raises ``DataError`` where there is none, or still several.
        """
        if self.found is None:
            self.found = defaultdict(list)
            for path in files_below(self.root):
                self.found[path.name].append(path)
        alike = self.found.get(line.picture, [])
        if len(alike) > 1:
            alike = [path for path in alike if line.class_name in (path.parent.name, path.parent.parent.name)]
        if len(alike) != 1:
            raise DataError(
                f"{line.place}: {len(alike) or 'no'} pictures below {self.root} are called {_shown(line)}; name the "
                "folder of the pictures that the boxes are of with --root"
            )
        return plain_path(alike[0])


def existing_picture(line: BoxLine, root: Path) -> Path:
    """Return the picture of a box by its path from a folder on, as `plain_path` gives it.

    Raises ``DataError`` where there is no such file.
    """
    path = path_below(root, line.picture)
    if path is None:
        raise DataError(
            f"{line.place}: {_shown(line)} leads out of {root}; name pictures from that folder on, or a "
            "folder that holds them all with --root"
        )
    if line.picture and is_file(path):
        return plain_path(path)
    turned = ", with / between folders" if "\\" in line.picture else ""
    raise DataError(
        f"{line.place}: there is no picture {_shown(line)} below {root}; name pictures from that folder on{turned}, or "
        "another folder with --root"
    )


def plain_path(path: Path) -> Path:
    """Return a path from the root of the file system on, without ``..``; links stay."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links away from the names in the file


def _shown(line: BoxLine) -> str:
    return repr(line.picture if len(line.picture) <= _SHOWN else f"{line.picture[:_SHOWN]}...")


__all__ = ["FolderPictures", "PartPictures", "existing_picture", "plain_path"]
