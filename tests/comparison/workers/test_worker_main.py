from kdcam.comparison.workers.worker_main import reason_of


def test_lack_of_memory_is_no_bug() -> None:
    assert reason_of(MemoryError()).startswith("out of memory (MemoryError); take fewer --jobs")
    on_cpu = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")
    assert "out of memory" in reason_of(on_cpu)
    assert reason_of(ValueError("x")) == "a bug, please report it: ValueError: x"
