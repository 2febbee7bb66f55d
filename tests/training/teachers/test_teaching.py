import pytest
import torch

from kdcam.data.batches.batch import Batch
from kdcam.models.build import build_classifier
from kdcam.models.classifier import TeacherOutputs
from kdcam.models.model_config import ModelConfig
from kdcam.training.engine import Teacher
from kdcam.training.teachers.cached_teacher import CachedTeacher
from kdcam.training.teachers.live_teacher import LiveTeacher, live_classifiers


def test_a_live_teacher_is_run_and_a_cached_one_is_read() -> None:
    classifier = build_classifier(
        ModelConfig(name="kdcam:resnet8"), num_classes=3, in_channels=1, image_size=16
    ).eval()
    places = torch.arange(2)
    batch = Batch(torch.rand(2, 1, 16, 16), torch.zeros(2).long(), places, torch.zeros(2).long(), places)
    needs = frozenset({"teacher.logits"})
    live = LiveTeacher(classifier)
    with torch.no_grad():
        logits = classifier(batch.images)
    arrays = {"teacher.logits": (logits.half()[None],)}
    both: list[Teacher] = [live, CachedTeacher(arrays, device=torch.device("cpu"))]
    said, read = (teacher.outputs(batch, needs) for teacher in both)
    assert said.logits is not None
    assert read.logits is not None
    assert torch.equal(said.logits, logits)
    assert torch.equal(read.logits, logits.half().float())
    assert [teacher.outputs(batch, frozenset({"cam"})) for teacher in both] == 2 * [TeacherOutputs()]
    assert live_classifiers([live]) == (classifier,)
    with pytest.raises(ValueError, match="1 of 2 teachers are read and have no classifier"):
        live_classifiers(both)
