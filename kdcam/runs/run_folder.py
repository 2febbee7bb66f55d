"""The run folder: opened for one recipe, locked against other processes, and the JSON files in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kdcam.files.atomic_writes import make_folder
from kdcam.files.folder_lock import FolderLock
from kdcam.files.json_files import json_form, layout_errors, read_json, write_json
from kdcam.runs import run_files
from kdcam.runs.resume_rules import (
    WEIGHTS_KEY,
    WeightDigests,
    changed_weights,
    check_finished,
    check_same_weights,
    prepare_folder,
    weight_digests,
)
from kdcam.runs.run_files import (
    PICTURES_KEY,
    RECIPE_FILE,
    RESULT_FILE,
    TRAINING_KEY,
    Resume,
    State,
    find_state,
    has_saved_state,
)
from kdcam.runtime.machine import describe_machine, package_versions


class RunFolder:
    """One run's folder, made by ``RunFolder.open``; a context manager that closes it.

    Attributes:
        path: The folder.
        state: What stood there when it was opened: "new", "unfinished" (a run that goes on) or "finished".
    """

    def __init__(
        self,
        path: Path,
        state: State,
        recipe: dict[str, Any],
        digests: WeightDigests,
        lock: FolderLock | None,
    ) -> None:
        self.path = path
        self.state = state
        self._recipe = recipe
        self._digests = digests
        self._lock = lock

    @classmethod
    def open(
        cls,
        path: Path,
        resolved: Mapping[str, Any],
        *,
        resume: Resume = "auto",
        named: WeightDigests | None = None,
    ) -> Self:
        """Return the folder, made if it is not there; locked until ``close`` unless its run is finished.

        Args:
            path: The run folder.
            resolved: The recipe and all else that decides the result, the seed included; it is compared as
                JSON with what recipe.json holds.
            resume: "auto": an unfinished run of the same recipe goes on. "never": an unfinished run, whatever
                its recipe, is removed, and the state is "new".
            named: Digests of the weights of teachers that the recipe names and that no file tells, where they are
                loaded.

        Raises:
            CheckpointError: The folder holds a run of another recipe or of other weights of a teacher, or a finished
                run while ``resume`` is "never", or files of something else, or is in use by another process, or cannot
                be written to.
        """
        recipe = json_form(resolved)
        digests = weight_digests(recipe, named)
        if find_state(path) == "finished":
            check_finished(path, recipe, resume)
            check_same_weights(path, read_json(path / RECIPE_FILE), digests, what="a finished run")
            return cls(path, "finished", recipe, digests, None)
        make_folder(path)
        lock = FolderLock(path)
        try:
            state = prepare_folder(path, recipe, resume)
            if state == "unfinished" and not _has_former_teachers(path, digests):
                state = prepare_folder(path, recipe, "never")
        except BaseException:
            lock.release()
            raise
        return cls(path, state, recipe, digests, lock)

    def close(self) -> None:
        """Let other processes write to the folder; a second call changes nothing."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write_recipe(
        self,
        *,
        command: Sequence[str],
        seed: int,
        device: str,
        data: Mapping[str, Any] | None = None,
        pictures: str | None = None,
    ) -> None:
        """Write recipe.json: recipe, versions of the packages, machine, command, seed, digests of teachers' weights.

        ``data``: what `training_data` tells of the images that the run begins with; ``pictures``: the digest of
        pictures.safetensors, where there is one.
        """
        record: dict[str, Any] = {
            "recipe": self._recipe,
            "versions": package_versions(),
            "machine": {**describe_machine(), "device": device},
            "command": list(command),
            "seed": seed,
        }
        if self._digests:
            record[WEIGHTS_KEY] = self._digests
        if data is not None:
            record[TRAINING_KEY] = data
        if pictures is not None:
            record[PICTURES_KEY] = pictures
        write_json(self.path / RECIPE_FILE, record)

    def changed_versions(self) -> dict[str, tuple[str | None, str | None]]:
        """Return package -> (version in recipe.json, version now) where they differ.

        With other versions a resumed run need not end bit for bit like an uninterrupted one.
        """
        now = package_versions()
        with layout_errors(self.path / RECIPE_FILE):
            before = dict(read_json(self.path / RECIPE_FILE).get("versions", {}))
            names = sorted(before.keys() | now.keys())
        return {
            name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)
        }

    def began_on(self) -> str | None:
        """Return the device on which the run began, as in recipe.json; None where it does not say."""
        with layout_errors(self.path / RECIPE_FILE):
            device = read_json(self.path / RECIPE_FILE).get("machine", {}).get("device")
        return device if isinstance(device, str) else None

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl and sync it to the disk; ``record`` holds at least "epoch"."""
        run_files.append_metrics(self.path, record)

    def cut_metrics(self, last_epoch: int) -> None:
        """Drop the lines of metrics.jsonl after ``last_epoch`` (counted from 1; 0 drops all)."""
        run_files.cut_metrics(self.path, last_epoch)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl in order, without a last one that a killed process left torn."""
        return run_files.read_metrics(self.path)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json, by which the run is finished: write it last."""
        write_json(self.path / RESULT_FILE, result)

    def read_result(self) -> dict[str, Any]:
        """Return what result.json holds."""
        return read_json(self.path / RESULT_FILE)


def _has_former_teachers(path: Path, digests: WeightDigests) -> bool:
    """Return whether an unfinished run's teachers are the former ones; one that kept no state may have others.

    Raises ``CheckpointError`` where its state came from other weights: its second half would not fit its first.
    """
    record = read_json(path / RECIPE_FILE)
    if has_saved_state(path):
        check_same_weights(path, record, digests, what="an unfinished run")
    return changed_weights(record, digests) is None


__all__ = ["RunFolder"]
