"""Which result files of a run folder become which sections of a report."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from kdcam.blocks.document import Section
from kdcam.files.json_files import layout_errors, read_json
from kdcam.files.paths import exists
from kdcam.report.reported_run import ReportedRun, ResultFile
from kdcam.report.sections.few_shot import few_shot_section
from kdcam.report.sections.localization import localization_section
from kdcam.report.sections.robustness import robustness_section
from kdcam.report.sections.verification import verification_section
from kdcam.runs.run_files import FEW_SHOT_FILE, LOCALIZATION_FILE, ROBUSTNESS_FILE, VERIFICATION_FILE

SECTIONS: Mapping[str, Callable[[Sequence[ResultFile]], Section]] = {
    FEW_SHOT_FILE: few_shot_section,
    VERIFICATION_FILE: verification_section,
    LOCALIZATION_FILE: localization_section,
    ROBUSTNESS_FILE: robustness_section,
}
"""File name -> what makes a section of the files of that name in the runs that have one, in the report's order.

A maker may index what it is given freely: what another version wrote is told to the user as an error that names the
file.
"""


def file_sections(runs: Sequence[ReportedRun]) -> Iterator[Section]:
    """Yield the sections of all result files that runs have.

    Raises ``CheckpointError`` for a file that is damaged or of another layout.
    """
    for name, make in SECTIONS.items():
        found = [
            ResultFile(run.name, run.folder, read_json(run.folder / name))
            for run in runs
            if exists(run.folder / name)
        ]
        if len(found) > 1:
            for one in found:  # alone first: an error names the one file
                with layout_errors(one.folder / name):
                    make([one])
        if found:
            with layout_errors(found[0].folder / name):
                yield make(found)


__all__ = ["SECTIONS", "file_sections"]
