import os
import signal
import threading

import pytest

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds that a stopper sees."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("number", "name"), list(zip(SIGNALS, ("Ctrl-C", "SIGTERM", "SIGHUP"), strict=True)))
def test_the_first_asks_and_the_second_stops(
    module, capfd: pytest.CaptureFixture[str], clock: list[float], number: int, name: str
) -> None:
    with module("signals").Stopper() as stopper:
        assert stopper.asked() is False
        signal.raise_signal(number)
        assert stopper.asked() is True
        assert f"stopping after this step ({name}); Ctrl-C again" in capfd.readouterr().err
        clock[0] += 2
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert capfd.readouterr().err == f"kdcam: stopped at once by {name}\n"
        assert stopper.exit_code == 128 + number


def test_signals_in_a_row_are_one(module, capfd: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with module("signals").Stopper() as stopper:
        stopper.asked()
        for number in (signal.SIGTERM, *SIGNALS, signal.SIGINT):
            signal.raise_signal(number)
            clock[0] += 0.2
        assert stopper.exit_code == 143
        assert len(capfd.readouterr().err.splitlines()) == 1


def test_the_third_ends_the_process(module, monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    ended = []
    monkeypatch.setattr("os._exit", ended.append)
    with module("signals").Stopper():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert ended == []
        clock[0] += 1.5
        with pytest.raises(KeyboardInterrupt):  # only since the process lives on here
            signal.raise_signal(signal.SIGINT)
        assert ended == [130]


@pytest.mark.parametrize("number", SIGNALS)
def test_before_training_looks_at_it_an_interrupt_is_an_interrupt(
    module, capfd: pytest.CaptureFixture[str], number: int
) -> None:
    with module("signals").Stopper(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert capfd.readouterr().err.startswith("kdcam: stopped by ")


def test_the_handlers_are_put_back_where_no_signal_came(module) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with module("signals").Stopper():
        assert all(signal.getsignal(number) not in before for number in SIGNALS)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_nohup_ignores_stays_ignored(module) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with module("signals").Stopper() as stopper:
        signal.raise_signal(signal.SIGHUP)
        assert stopper.asked() is False


def test_a_process_has_one_stopper(module) -> None:
    stopping = module("signals")
    with stopping.Stopper() as outer:
        with stopping.stopping() as inner:
            assert inner is outer
            inner.asked()
        assert not outer.is_heeded  # the work that looks at it is over
        outer.is_over = True
        with stopping.stopping() as another:
            assert another is not outer


def test_as_the_process_ends_signals_do_nothing(module, capfd: pytest.CaptureFixture[str]) -> None:
    with module("signals").Stopper() as stopper:
        stopper.end()
        for number in SIGNALS:
            signal.raise_signal(number)
        assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}
    assert capfd.readouterr().err == ""


def test_a_forked_process_leaves_it_to_its_parent(module, monkeypatch: pytest.MonkeyPatch) -> None:
    with module("signals").Stopper() as stopper:
        monkeypatch.setattr(stopper, "process", os.getpid() + 1)
        signal.raise_signal(signal.SIGINT)
        assert stopper.asked() is False


def test_in_another_thread_it_takes_nothing(module) -> None:
    found = []

    def work() -> None:
        with module("signals").Stopper() as stopper:
            found.append(stopper.asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
