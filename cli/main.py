"""The `kdcam` command as it starts and ends: signals, standard streams and the exit code.

It imports nothing that takes time before signals are taken, so that Ctrl-C is one line from the first moments on.
"""

import sys

from .signals import INTERRUPTED, Stopper

_READER_GONE = 141  # what a shell tells of a program that was ended by SIGPIPE


# What signals and closed streams lead to: docs/decisions/026.
def main() -> None:
    """Run the command line and exit.

    0: done; 1: a KdcamError, or a result that could not be written to stdout; 2: bad usage; 130, 143, 129: stopped by
    Ctrl-C, SIGTERM, SIGHUP; 141: the reader of stdout has gone.
    """
    stopper = Stopper()
    stopper.take()
    try:
        code = _run()
    except BaseException:
        if not stopper.is_raised:
            raise
        # Whatever became of the signal on its way: an import that it cuts short may call itself something else.
        code = INTERRUPTED
    finally:
        stopper.end()
    sys.exit(stopper.exit_code if code == INTERRUPTED else code)


def _run() -> int:
    from .streams import ReaderGone, guarded_streams  # here: signals are taken first

    try:
        with guarded_streams():
            from .app import run  # here: signals are taken first, and its errors are written

            return run()
    except ReaderGone:
        return _READER_GONE


__all__ = ["main"]
