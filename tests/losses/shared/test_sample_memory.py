import pytest
import torch
from torch import Tensor
from two_processes import on_two_processes

from kdcam.losses.shared.sample_memory import LatestRecord


def test_keeps_the_latest_value_of_each_image() -> None:
    record = LatestRecord(torch.ones(4))
    record.write(torch.tensor([2, 0]), torch.tensor([0.5, 0.25]))
    record.write(torch.tensor([2]), torch.tensor([0.75]))
    assert record.values.tolist() == [0.25, 1.0, 0.75, 1.0]


def test_of_an_image_twice_in_a_batch_the_last_counts() -> None:
    record = LatestRecord(torch.zeros(3))
    record.write(torch.tensor([1, 2, 1, 2, 1]), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert record.values.tolist() == [0.0, 5.0, 4.0]


def test_keeps_rows_in_its_own_precision_and_no_gradient() -> None:
    start = torch.zeros(3, 2)
    record = LatestRecord(start)
    record.write(torch.tensor([1]), torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16, requires_grad=True))
    assert record.values.tolist() == [[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]
    assert record.values.dtype == torch.float32
    assert not record.values.requires_grad
    assert start.sum() == 0


def test_is_state() -> None:
    first, second = LatestRecord(torch.zeros(3)), LatestRecord(torch.zeros(3))
    first.write(torch.tensor([1]), torch.tensor([0.5]))
    second.load_state_dict(first.state_dict())
    assert second.values.tolist() == [0.0, 0.5, 0.0]


def test_an_image_outside_the_record_is_an_error() -> None:
    with pytest.raises(IndexError):
        LatestRecord(torch.zeros(3)).write(torch.tensor([3]), torch.tensor([0.5]))


def _write(rank: int) -> dict[str, Tensor]:
    record = LatestRecord(torch.zeros(4))
    record.write(torch.tensor([1, 2 * rank]), torch.tensor([0.25, 0.5]) + rank)
    return record.state_dict()


def test_every_process_remembers_the_images_of_all() -> None:
    # Image 1 comes to both: the last rank's value counts.
    for found in on_two_processes(_write):
        assert found["values"].tolist() == [0.5, 1.25, 1.5, 0.0]
