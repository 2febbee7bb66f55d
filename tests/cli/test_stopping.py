import os
import signal
import threading

import pytest


def test_the_first_asks_and_the_second_stops(module, capfd: pytest.CaptureFixture[str]) -> None:
    with module("stopping").Stopper() as stopper:
        assert stopper.asked() is False
        signal.raise_signal(signal.SIGINT)
        assert stopper.asked() is True
        assert "Ctrl-C again" in capfd.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_before_training_looks_at_it_an_interrupt_is_an_interrupt(module) -> None:
    with module("stopping").Stopper(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_the_handler_is_put_back(module) -> None:
    before = signal.getsignal(signal.SIGINT)
    with module("stopping").Stopper():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_a_forked_process_leaves_it_to_its_parent(module, monkeypatch: pytest.MonkeyPatch) -> None:
    with module("stopping").Stopper() as stopper:
        monkeypatch.setattr(stopper, "process", os.getpid() + 1)
        signal.raise_signal(signal.SIGINT)
        assert stopper.asked() is False


def test_in_another_thread_it_takes_nothing(module) -> None:
    found = []

    def work() -> None:
        with module("stopping").Stopper() as stopper:
            found.append(stopper.asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
