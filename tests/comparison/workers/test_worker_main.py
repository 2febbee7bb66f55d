from kdcam.comparison.workers.worker_main import failure_reason


def test_lack_of_memory_is_no_bug() -> None:
    assert failure_reason(MemoryError()).startswith("out of memory (MemoryError); take fewer --jobs")
    on_cpu = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes")
    assert "out of memory" in failure_reason(on_cpu)
    assert failure_reason(ValueError("x")) == "a bug, please report it: ValueError: x"
