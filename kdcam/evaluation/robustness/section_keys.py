"""What decides the numbers of each section of an evaluation, as digests: equal keys, equal numbers."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdcam.data.batches.image_digests import images_digest
from kdcam.data.dataset_parts import Part
from kdcam.data.splits.held_out import drawn_positions
from kdcam.errors import DataError
from kdcam.evaluation.robustness.out_of_distribution import foreign_config, is_picture_folder
from kdcam.evaluation.robustness.partial_results import combined_digest
from kdcam.evaluation.robustness.reference_runs import ReferenceNetwork, ReferenceNetworks
from kdcam.evaluation.robustness.robustness_settings import RobustnessEvaluationSettings
from kdcam.files.digests import targets_digest, weights_digest
from kdcam.files.paths import exists, expanded, is_folder, resolved
from kdcam.models.classifier import Classifier
from kdcam.runs.open_run import LoadedRun, Weights, recipe_of
from kdcam.runs.picture_record import read_noisy_labels
from kdcam.runs.run_files import NOISE_FILE, RESULT_FILE
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import reason_text

PROTOCOL = 4  # of the numbers; another number is another way to come by them, and nothing kept is taken over


def network_key(loaded: LoadedRun, weights: Weights) -> str:
    """Return the digest of what all sections of a run depend on: its weights, its [data] table, kdcam's version."""
    return combined_digest(
        {
            "protocol": PROTOCOL,
            "version": version("kdcam"),
            "which": weights,
            "weights": _identity(loaded.classifier),
            "data": recipe_of(loaded.path).data.model_dump(mode="json"),  # wherever its files lie now
        }
    )


# What is in a section's key, and what is not: docs/decisions/017.
def section_keys(
    loaded: LoadedRun,
    settings: RobustnessEvaluationSettings,
    references: ReferenceNetworks,
    *,
    network: str,
    batch_size: int,
    progress: Progress,
) -> dict[str, str]:
    """Return the digest of each section that is asked for: of network, kind of device, the section's images, settings.

    Beside attacks that of their checks, asked for or not: it tells whether checks that are kept belong to them.

    Args:
        loaded: the run.
        settings: what is asked for.
        references: the source and the base.
        network: what `network_key` returned.
        batch_size: counts where an attack draws by the batch.
        progress: who watches.

    Raises ``DataError`` where images are missing or cannot be read.
    """
    facts = _SectionFacts(loaded, settings, references, batch_size, progress)
    makers: Mapping[str, Callable[[], dict[str, Any]]] = {
        "attacks": facts.attacks,
        "checks": facts.attacks,
        "corruptions": facts.corruptions,
        "corrupted_set": facts.corrupted_set,
        "calibration": facts.calibration,
        "out_of_distribution": facts.foreign,
        "label_noise": lambda: _noise_facts(loaded),
    }
    asked = [*asked_sections(loaded.path, settings), *(["checks"] if settings.attack else [])]
    # A GPU rounds otherwise than a CPU: a section is of one kind of device.
    shared = {"network": network, "device": loaded.classifier.mean.device.type}
    return {
        section: combined_digest({**shared, "section": section, **makers[section]()})
        for section in dict.fromkeys(asked)
    }


@dataclass(frozen=True)
class _SectionFacts:
    """What decides the numbers of each section, beside the network."""

    loaded: LoadedRun
    settings: RobustnessEvaluationSettings
    references: ReferenceNetworks
    batch_size: int
    progress: Progress

    @cached_property
    def examples(self) -> list[str]:
        """Digests of the images that are attacked and corrupted."""
        return _part_digests(
            evaluated_part(self.loaded.part("test"), self.settings.n_examples), self.progress
        )

    @cached_property
    def test(self) -> list[str]:
        """Digests of the whole test part."""
        return _part_digests(self.loaded.part("test"), self.progress)

    def attacks(self) -> dict[str, Any]:
        by_batch = any(config.name == "autoattack" for config in self.settings.attack_configs)
        return {
            "images": self.examples,
            "budgets": [budget.model_dump(mode="json") for budget in self.settings.budgets],
            "source": _reference_facts(self.references.source),
            "batch": self.batch_size if by_batch else None,
        }

    def corruptions(self) -> dict[str, Any]:
        return {
            "images": self.examples,
            "names": self.settings.corruptions,
            "severities": self.settings.severities,
            "seed": self.settings.seed,
            "base": _reference_facts(self.references.base),
        }

    def corrupted_set(self) -> dict[str, Any]:
        assert self.settings.corrupted_set is not None
        return {
            "images": self.test,
            "set": folder_fingerprint(self.settings.corrupted_set),
            "severities": self.settings.severities,
            "n_examples": self.settings.n_examples,
            "base": _reference_facts(self.references.base),
        }

    def calibration(self) -> dict[str, Any]:
        has_validation = self.loaded.parts.validation is not None
        held = self.loaded.part("validation") if has_validation else None
        return {
            "images": self.test,
            "validation": None if held is None else _part_digests(held, self.progress),
        }

    def foreign(self) -> dict[str, Any]:
        assert self.settings.ood is not None
        return {"images": self.test, "data": _foreign_facts(self.settings.ood, self.loaded)}


def asked_sections(run: Path, settings: RobustnessEvaluationSettings) -> tuple[str, ...]:
    """Return the sections to find of a run, in order."""
    return (*settings.sections, *(("label_noise",) if exists(run / NOISE_FILE) else ()))


def evaluated_part(part: Part, n_examples: int) -> Part:
    """Return the images of a part that are attacked and corrupted: its first ones, or some of all classes."""
    drawn = drawn_positions(part.targets, n_examples)
    return part.subset(torch.arange(min(n_examples, len(part))) if drawn is None else drawn)


def folder_fingerprint(folder: Path) -> dict[str, Any]:
    """Return where a folder lies and which files it holds, with sizes and times of change.

    Raises ``DataError`` where it cannot be read.
    """
    root = resolved(expanded(folder))
    try:
        return {"path": str(root), "files": combined_digest({"files": sorted(_files(root))})}
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({reason_text(error)}); restore the folder") from error


def _files(root: Path) -> Iterator[list[Any]]:
    with os.scandir(root) as found:
        for entry in found:
            if entry.is_dir():
                yield from _files(Path(entry.path))
            else:
                facts = entry.stat()
                # Names need not be UTF-8.
                yield [os.fsencode(entry.path).hex(), facts.st_size, facts.st_mtime_ns]


def _reference_facts(reference: ReferenceNetwork | None) -> list[str] | None:
    return None if reference is None else [reference.name, _identity(reference.classifier)]


def _foreign_facts(named: str, loaded: LoadedRun) -> dict[str, Any]:
    if is_picture_folder(named):
        return folder_fingerprint(Path(named))
    config = foreign_config(named, loaded.classifier.image_size)
    root: Path | None = getattr(config, "root", None)
    held = folder_fingerprint(root) if root is not None and is_folder(expanded(root)) else None
    return {"named": named, "table": config.model_dump(mode="json"), "files": held}


def _noise_facts(loaded: LoadedRun) -> dict[str, Any]:
    return {
        "labels": targets_digest(torch.stack(read_noisy_labels(loaded.path))),
        "images": len(loaded.part("train")),
        "finished": exists(loaded.path / RESULT_FILE),
    }


def _part_digests(part: Part, progress: Progress) -> list[str]:
    return [images_digest(part.images, progress=progress).sha256, targets_digest(part.targets)]


def _identity(classifier: nn.Module) -> str:
    # In evaluation every other thing about a network (its normalisation, its head) follows from its settings.
    assert isinstance(classifier, Classifier)
    return f"{classifier.config.model_dump_json()} {classifier.preprocessing} {weights_digest(classifier.network)}"


__all__ = [
    "PROTOCOL",
    "asked_sections",
    "evaluated_part",
    "folder_fingerprint",
    "network_key",
    "section_keys",
]
