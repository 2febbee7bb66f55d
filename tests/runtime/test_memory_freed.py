import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from kdcam.runtime.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
kept = keep_freed_memory()
faults()
print(plain, min(faults() for _ in range(5)), kept)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_memory_that_was_freed_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    plain, kept, works = done.stdout.split()
    if works == "False":
        pytest.skip("another C library than glibc")
    assert int(kept) < int(plain) / 2
