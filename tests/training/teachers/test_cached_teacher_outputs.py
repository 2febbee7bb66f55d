import pytest
import torch

from kdcam.data.batches.batch import Batch
from kdcam.models.classifier import TeacherOutputs
from kdcam.training.teachers.cached_teacher import CachedTeacher

CPU = torch.device("cpu")
LOGITS = torch.arange(2 * 3 * 4).reshape(2, 3, 4).half()
STAGES = (torch.zeros(2, 3, 5, 2, 2).half(), torch.ones(2, 3, 6, 1, 1).half())
PUBLISHED = (torch.full((2, 3, 7, 2, 2), 2.0).half(),)
ARRAYS = {"teacher.logits": (LOGITS,), "teacher.stages": STAGES, "teacher.published_stages": PUBLISHED}


def batch(views: list[int] | None, indices: list[int]) -> Batch:
    images, targets, places = (
        torch.zeros(len(indices), 1, 2, 2),
        torch.zeros(len(indices)),
        torch.tensor(indices),
    )
    if views is None:
        return Batch(images, targets, places)
    return Batch(images, targets, places, torch.tensor(views), places)


def on(device: torch.device, seen: Batch) -> Batch:
    """Return a batch as a run on a device gets it."""
    images, targets, indices = (one.to(device) for one in seen[:3])
    return seen._replace(images=images, targets=targets, indices=indices)


def test_nothing_is_asked_of_the_device_while_the_arrays_are_on_the_host() -> None:
    device = torch.device("meta")  # whose numbers nobody can read
    teacher = CachedTeacher(ARRAYS, device=device)
    assert teacher.place.type == "cpu"
    read = teacher.outputs(on(device, batch([1, 0], [2, 0])), frozenset(ARRAYS))
    assert read.logits is not None
    assert (read.logits.device.type, read.logits.shape, len(read.stages)) == ("meta", (2, 4), 2)


def test_each_image_is_read_in_its_view_in_float32() -> None:
    read = CachedTeacher(ARRAYS, device=CPU).outputs(batch([1, 0, 1], [2, 0, 0]), frozenset(ARRAYS))
    assert read.logits is not None
    assert read.logits.dtype == torch.float32
    assert torch.equal(read.logits, torch.stack([LOGITS[1, 2], LOGITS[0, 0], LOGITS[1, 0]]).float())
    assert [tuple(stage.shape) for stage in read.stages] == [(3, 5, 2, 2), (3, 6, 1, 1)]
    assert [tuple(stage.shape) for stage in read.published_stages] == [(3, 7, 2, 2)]


def test_only_what_is_needed_now_is_read() -> None:
    teacher = CachedTeacher(ARRAYS, device=CPU)
    read = teacher.outputs(batch([0], [1]), frozenset({"teacher.stages", "cam"}))
    assert read.logits is None
    assert (len(read.stages), read.published_stages) == (2, ())
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
    seen = on(device, batch([1], [2]))
    torch.cuda.set_sync_debug_mode("error")
    try:
        read = teacher.outputs(seen, frozenset(ARRAYS))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert read.logits is not None
    assert read.logits.device.type == "cuda"
    assert torch.equal(read.logits.cpu(), LOGITS[1, 2].float()[None])
