"""What tests share: signals as usual, one thread unless OMP_NUM_THREADS says otherwise, their own compiled code."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported, and for the processes that tests start: each worker has a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numeric_tests
import pytest
import torch

# A suite that nohup started has SIGHUP ignored, and so would all that it starts.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SHARED_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Start no workers for named files: each takes seconds to import torch, as long as most files take."""
    named = all(Path(argument.partition("::")[0]).is_file() for argument in config.args)
    return 0 if named else None


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in numeric_tests.markers(item.path):
            item.add_marker(marker)


@pytest.fixture(autouse=True, scope="session")
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def _compiled_anew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """torch's usual cache also holds, and takes, code for vectors that ATEN_CPU_CAPABILITY does not allow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        yield
