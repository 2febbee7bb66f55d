import pytest
import torch

from kdcam.data.batches import Batch
from kdcam.models.classifier import TeacherOutputs
from kdcam.teacher_cache.cached_teacher import CachedTeacher

CPU = torch.device("cpu")
LOGITS = torch.arange(2 * 3 * 4).reshape(2, 3, 4).half()
STAGES = (torch.zeros(2, 3, 5, 2, 2).half(), torch.ones(2, 3, 6, 1, 1).half())
ARRAYS = {"teacher.logits": (LOGITS,), "teacher.stages": STAGES}


def batch(views: list[int] | None, indices: list[int]) -> Batch:
    shown = None if views is None else torch.tensor(views)
    return Batch(torch.zeros(len(indices), 1, 2, 2), torch.zeros(len(indices)), torch.tensor(indices), shown)


def test_each_image_is_read_in_its_view_in_float32() -> None:
    read = CachedTeacher(ARRAYS, device=CPU).outputs(batch([1, 0, 1], [2, 0, 0]), frozenset(ARRAYS))
    assert read.logits is not None
    assert read.logits.dtype == torch.float32
    assert torch.equal(read.logits, torch.stack([LOGITS[1, 2], LOGITS[0, 0], LOGITS[1, 0]]).float())
    assert [tuple(stage.shape) for stage in read.stages] == [(3, 5, 2, 2), (3, 6, 1, 1)]


def test_only_what_is_needed_now_is_read() -> None:
    teacher = CachedTeacher(ARRAYS, device=CPU)
    read = teacher.outputs(batch([0], [1]), frozenset({"teacher.stages", "cam"}))
    assert read.logits is None
    assert len(read.stages) == 2
    assert teacher.outputs(batch([0], [1]), frozenset({"cam"})) == TeacherOutputs()


def test_a_batch_without_views_is_a_programmers_error() -> None:
    with pytest.raises(ValueError, match="the batch has no views"):
        CachedTeacher(ARRAYS, device=CPU).outputs(batch(None, [0]), frozenset(ARRAYS))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("free", [2**40, 100])
def test_on_a_gpu_arrays_go_there_where_they_fit(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2**40))
    device = torch.device("cuda")
    teacher = CachedTeacher(ARRAYS, device=device)
    assert teacher.place.type == ("cpu" if free == 100 else "cuda")
    moved = Batch(*(None if one is None else one.to(device) for one in batch([1], [2])))  # type: ignore[arg-type]
    read = teacher.outputs(moved, frozenset(ARRAYS))
    assert read.logits is not None
    assert read.logits.device.type == "cuda"
    assert torch.equal(read.logits.cpu(), LOGITS[1, 2].float()[None])
