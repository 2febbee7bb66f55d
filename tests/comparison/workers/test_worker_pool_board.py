import pytest
from small_runs import Watcher

from kdcam.comparison.workers.worker_pool import ProgressBoard, main_score_text


def test_equal_lines_are_told_once() -> None:
    progress = Watcher()
    board = ProgressBoard(progress, done=1, total=3)
    for name in ("a", "b"):
        board.message(name, "resnet8 on 45 images")
        board.warning(name, "careful")
    assert progress.messages == ["a: resnet8 on 45 images"]
    assert progress.warnings == ["a: careful"]


def test_epochs_are_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Watcher()
    board = ProgressBoard(progress, done=0, total=1)
    record = {"epochs": 9, "validation": {"acc1": 0.5}, "images_per_second": 1234.0, "seconds_left": 90.0}
    for epoch, seconds in ((1, 0.0), (2, 59.0), (3, 61.0), (4, 119.0), (5, 122.0)):
        now[0] = 1000.0 + seconds
        board.epoch("a", {**record, "epoch": epoch})
    assert progress.messages == [
        "a: epoch 3 of 9, validation acc1 50.00%, 1,234 images/s, 2 min left",
        "a: epoch 5 of 9, validation acc1 50.00%, 1,234 images/s, 2 min left",
    ]


def test_no_bar_is_left_standing_when_a_run_ends() -> None:
    bars: dict[str, tuple[int, int]] = {}

    class Bars(Watcher):
        def advance(self, task: str, done: int, total: int) -> None:
            bars[task] = (done, total)

    board = ProgressBoard(Bars(), done=0, total=2)
    board.begin()
    board.move("a", 3, 9)
    board.move("a", 1, 4, "teacher's views")
    board.move("b", 2, 9)
    assert bars == {"all runs": (0, 2), "a": (3, 9), "a: teacher's views": (1, 4), "b": (2, 9)}
    board.end("a", "done")
    board.end("c", "put off")  # one that showed nothing
    assert bars == {"all runs": (1, 2), "a": (9, 9), "a: teacher's views": (4, 4), "b": (2, 9)}


def test_the_main_score() -> None:
    assert main_score_text({"acc1": 0.5, "nll": 1.0}) == "acc1 50.00%"
    assert main_score_text({"mean_ap": 0.25, "f1": 0.5}) == "mean_ap 25.00%"
    assert main_score_text({}) == "no score"


def test_failed_runs_are_over_but_not_done() -> None:
    bars: dict[str, tuple[int, int]] = {}

    class Bars(Watcher):
        def advance(self, task: str, done: int, total: int) -> None:
            bars[task] = (done, total)

    board = ProgressBoard(Bars(), done=1, failed=1, total=4)
    board.end("a", "failed")
    assert board.count_text(" done") == "1 of 4 runs done, 2 failed"
    assert bars == {"all runs": (3, 4)}
