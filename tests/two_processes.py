"""A function run on two processes that talk by gloo, for tests of what must be the same on every process."""

import inspect
import runpy
from collections.abc import Callable
from multiprocessing import set_forkserver_preload
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed
import torch.multiprocessing
from safetensors.torch import load_file, save_file
from torch import Tensor

PROCESSES = 2


def on_two_processes(
    function: Callable[..., dict[str, Tensor]], *arguments: object
) -> list[dict[str, Tensor]]:
    """Return what ``function(rank, *arguments)`` returns on rank 0 and 1.

    The function must be at the top level of its file, and the arguments must pickle.
    """
    # By file, for under --import-mode=importlib a test's module may have a name that another process cannot import.
    place = (inspect.getfile(function), function.__name__)
    # Processes are forked from a server that has imported what takes long, once for all tests.
    set_forkserver_preload(["torch", "torch.distributed", "safetensors.torch", "kdcam.losses", "pytest"])
    with TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            _run, (place, arguments, folder), nprocs=PROCESSES, start_method="forkserver"
        )
        return [load_file(_result(folder, rank)) for rank in range(PROCESSES)]


def _run(rank: int, place: tuple[str, str], arguments: tuple[object, ...], folder: str) -> None:
    torch.set_num_threads(1)
    file, name = place
    function = runpy.run_path(file)[name]
    store = torch.distributed.FileStore(f"{folder}/store", PROCESSES)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES)
    found: dict[str, Tensor] = function(rank, *arguments)
    save_file({key: tensor.contiguous() for key, tensor in found.items()}, _result(folder, rank))
    torch.distributed.destroy_process_group()


def _result(folder: str, rank: int) -> Path:
    return Path(folder, f"{rank}.safetensors")
