"""Whether a result file is of the weights that lie beside it."""

from collections.abc import Iterator, Sequence

from kdcam.blocks.document import Note
from kdcam.files.digests import weights_file_digest
from kdcam.report.reported_run import ResultFile
from kdcam.runs.run_files import MODEL_FILE


def outdated_notes(found: Sequence[ResultFile]) -> Iterator[Note]:
    """Yield a warning for each run whose file is of other weights than the selected ones in its folder."""
    for one in found:
        digest = weights_file_digest(one.folder / MODEL_FILE)
        if digest is not None and one.content["model"] != digest:
            which = (
                "of the last epoch, as asked for"
                if one.content.get("weights") == "last"
                else "of an earlier run; run the evaluation again"
            )
            yield Note(
                f"{one.run}: of other weights than those selected now ({MODEL_FILE}): {which}",
                warning=True,
            )


__all__ = ["outdated_notes"]
