"""A teacher whose outputs are read, not computed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdcam.data.batches.batch import Batch
from kdcam.models.classifier import TeacherOutputs
from kdcam.training.teachers.cache_entries import output_name
from kdcam.training.teachers.cache_folder import SEVERAL

_GPU_SHARE = 0.5  # of a GPU's free memory that the arrays may take; the student needs the rest


class CachedTeacher:
    """A teacher's kept outputs for each view of each training image."""

    def __init__(self, arrays: Mapping[str, tuple[Tensor, ...]], *, device: torch.device) -> None:
        """Take the arrays (V, N, ...) fp16 of each need; they go to a GPU where they fit into half of its free memory.

        Elsewhere they stay where they are: files in the page cache, which processes share.
        """
        held = [array for group in arrays.values() for array in group]
        self._device = device
        self._images = held[0].shape[1] if held else 0
        size = sum(array.nbytes for array in held)
        self.place = device if device.type == "cpu" or _has_room(device, size) else torch.device("cpu")
        # From other memory a copy to a GPU makes the host wait.
        self._pins = device.type == "cuda" and self.place.type == "cpu"
        self._arrays = {
            need: tuple(array.flatten(0, 1).to(self.place) for array in group)
            for need, group in arrays.items()
        }

    def outputs(self, batch: Batch, needs: frozenset[str]) -> TeacherOutputs:
        """Return what the teacher said of a batch's images in their views, in float32 on the run's device.

        ``needs`` are the losses'; of these, names that begin with ``teacher.`` count. The host waits for no GPU. Raises
        ``ValueError`` for a batch that has no views.
        """
        if batch.views is None or batch.host_indices is None:
            raise ValueError("the batch has no views, and a cached teacher knows no other images")
        rows = (batch.views * self._images + batch.host_indices).to(self.place, non_blocking=True)
        read: dict[str, Any] = {}
        for need, group in self._arrays.items():
            if need in needs:
                name, gathered = output_name(need), tuple(self._gathered(array, rows) for array in group)
                read[name] = gathered if name in SEVERAL else gathered[0]
        return TeacherOutputs(**read)

    def _gathered(self, array: Tensor, rows: Tensor) -> Tensor:
        gathered = array[rows]
        if self._pins:
            gathered = gathered.pin_memory()
        return gathered.to(self._device, non_blocking=True).to(torch.float32)


def _has_room(device: torch.device, size: int) -> bool:
    return device.type == "cuda" and size < _GPU_SHARE * torch.cuda.mem_get_info(device)[0]


__all__ = ["CachedTeacher"]
