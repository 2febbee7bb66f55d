import pytest
import torch
from torch import Tensor
from two_processes import on_two_processes

from kdcam.errors import RecipeError
from kdcam.runtime.distributed import check_single_process, gather_over_processes, sum_over_processes


def test_a_single_process_gets_its_own_tensors() -> None:
    one, other = torch.arange(3.0), torch.ones(2, 2)
    assert all(a is b for a, b in zip(sum_over_processes(one, other), (one, other), strict=True))
    assert all(a is b for a, b in zip(gather_over_processes(one, other), (one, other), strict=True))


def _exchange(rank: int) -> dict[str, Tensor]:
    values = torch.tensor([[1.0, 2.0]], requires_grad=True) + 10 * rank
    flags = torch.tensor([rank == 1])
    (total,) = sum_over_processes(values.detach())
    rows, every_flag, turned = gather_over_processes(values, flags, torch.arange(6).view(2, 3).T + rank)
    assert not rows.requires_grad
    return {"own": values.detach(), "total": total, "rows": rows, "flags": every_flag, "turned": turned}


def test_two_processes_get_the_same_sums_and_rows() -> None:
    for rank, found in enumerate(on_two_processes(_exchange)):
        assert found["own"].tolist() == [[1.0 + 10 * rank, 2.0 + 10 * rank]]
        assert found["total"].tolist() == [[12.0, 14.0]]
        assert found["rows"].tolist() == [[1.0, 2.0], [11.0, 12.0]]
        assert found["flags"].tolist() == [False, True]
        assert found["turned"].tolist() == [[0, 3], [1, 4], [2, 5], [1, 4], [2, 5], [3, 6]]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"},
        {"RANK": "0", "WORLD_SIZE": "two"},
    ],
)
def test_a_single_process_may_work(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check_single_process()


def test_one_of_several_that_torchrun_started_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "16")
    with pytest.raises(RecipeError, match="started as 16 processes"):
        check_single_process()


def _refusal(rank: int) -> dict[str, Tensor]:
    del rank
    try:
        check_single_process()
    except RecipeError:
        return {"refused": torch.tensor(True)}
    return {"refused": torch.tensor(False)}


def test_one_of_several_that_the_caller_started_may_not() -> None:
    assert all(found["refused"] for found in on_two_processes(_refusal))
