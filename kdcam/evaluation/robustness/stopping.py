"""An evaluation ends where the user asks for it, between two pieces of work."""

from kdcam.errors import Interrupted
from kdcam.runtime.progress import Progress


def stop_with_results_kept(progress: Progress) -> None:
    """Raise ``Interrupted`` where the user asked to stop; to be called once what is done is kept."""
    if progress.should_stop():
        raise Interrupted("the evaluation was stopped; what is done is kept, the same command goes on")


__all__ = ["stop_with_results_kept"]
