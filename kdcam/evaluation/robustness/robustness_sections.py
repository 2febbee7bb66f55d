"""One run under evaluation: its settings, the images that are looked at, and what several sections read."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from pydantic import BaseModel
from torch import Tensor

from kdcam.api import LoadedRun
from kdcam.data.batches.batch import Batches
from kdcam.data.splits.held_out import drawn_positions
from kdcam.errors import CheckpointError
from kdcam.evaluation.robustness.evaluated_images import drawn_batches, drawn_text
from kdcam.evaluation.robustness.outputs import LabelledLogits, collect_logits
from kdcam.evaluation.robustness.robustness_settings import RobustnessEvaluationSettings
from kdcam.evaluation.robustness.section_keys import ReferenceNetworks
from kdcam.runtime.progress import Progress

AnyReport = TypeVar("AnyReport", bound=BaseModel)


@dataclass(frozen=True)
class SectionContext:
    """One run with what is done to it."""

    loaded: LoadedRun
    settings: RobustnessEvaluationSettings
    batch_size: int
    progress: Progress
    others: ReferenceNetworks
    fresh: bool = False  # nothing that was found before is taken over
    refused: CheckpointError | None = None  # why nothing can be written into the run's folder
    _logits: dict[str, LabelledLogits] = field(default_factory=dict)

    @cached_property
    def drawn(self) -> Tensor | None:
        """Which test images are attacked and corrupted; None: the first ones."""
        return drawn_positions(self.loaded.part("test").targets, self.settings.n_examples)

    @cached_property
    def test(self) -> Batches:
        """The test part, the images that are attacked and corrupted first."""
        part = self.loaded.part("test")
        if self.drawn is None:
            return self.loaded.batches(part, batch_size=self.batch_size)
        found = self.loaded.batches(part.subset(self.drawn), batch_size=self.batch_size)
        return drawn_batches(found, self.drawn)

    def told(self, report: AnyReport) -> AnyReport:
        """Return a report on `test` that says which images these are."""
        if self.drawn is None:
            return report
        classes = len(self.loaded.part("test").targets.unique())
        return report.model_copy(update={"subset": drawn_text(len(self.drawn), classes)})

    def logits(self, part: str) -> LabelledLogits:
        """Return the logits of a whole part, computed once."""
        if part not in self._logits:
            found = self.loaded.batches(self.loaded.part(part), batch_size=self.batch_size)
            self._logits[part] = collect_logits(
                self.loaded.classifier, found, task=f"{part} part", progress=self.progress
            )
        return self._logits[part]


__all__ = ["SectionContext"]
