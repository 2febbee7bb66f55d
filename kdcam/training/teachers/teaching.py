"""What training asks of a teacher, whether it is run at each step or its outputs are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kdcam.data.batches.batch import Batch
from kdcam.models.classifier import Classifier, TeacherOutputs, teacher_outputs


class Teacher(Protocol):
    """Says what the losses need to know of a batch."""

    def outputs(self, batch: Batch, needs: frozenset[str]) -> TeacherOutputs:
        """Return what ``needs`` names of a batch, on its device and without gradient.

        ``needs`` are the losses'; only names that begin with ``teacher.`` count.
        """


@dataclass(frozen=True)
class LiveTeacher:
    """A teacher that is run on each batch; its classifier is in eval mode."""

    classifier: Classifier

    def outputs(self, batch: Batch, needs: frozenset[str]) -> TeacherOutputs:
        """Return what ``needs`` names of a batch; see `teacher_outputs` for the errors."""
        return teacher_outputs(self.classifier, batch.images, batch.targets, needs)


def live_classifiers(teachers: Sequence[Teacher]) -> tuple[Classifier, ...]:
    """Return the classifiers of teachers that are all run; ``ValueError`` where one is not."""
    live = tuple(teacher.classifier for teacher in teachers if isinstance(teacher, LiveTeacher))
    if len(live) < len(teachers):
        raise ValueError(
            f"{len(teachers) - len(live)} of {len(teachers)} teachers are read and have no classifier"
        )
    return live


__all__ = ["LiveTeacher", "Teacher", "live_classifiers"]
