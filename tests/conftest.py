"""What tests share: signals as usual, one thread unless OMP_NUM_THREADS says otherwise, their own compiled code."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# A suite that nohup started has SIGHUP ignored, and so would all that it starts.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SHARED_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def _compiled_anew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """torch's usual cache also holds, and takes, code for vectors that ATEN_CPU_CAPABILITY does not allow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield
