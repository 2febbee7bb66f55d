"""The errors that kdcam raises on purpose.

KdcamError
├── RecipeError      a recipe, an override or a flag asks for something that cannot be
├── ModelError       a network is unknown, cannot be built, or has not what a loss needs
├── DataError        images, labels or folders are missing, broken or do not fit
├── CheckpointError  a run folder or a weight file cannot be read, written or does not fit
│   └── FolderInUseError  another process is writing to the folder: the same may work later
├── TrainingError    a run cannot go on: a loss is no longer finite; or none of several runs came to its end
├── OutOfMemory      the machine or the device has less memory than a run asks for
└── Interrupted      the user asked a run to stop; its state was kept

Each message is one sentence or more that says the place, the value found, what is allowed and the way out.
The command line prints it on one line and exits with 1. Wrong arguments to a library function (a programmer's
error) raise ``TypeError`` or ``ValueError`` instead.
"""


class KdcamError(Exception):
    """Something outside kdcam's code is wrong; the message is meant for the person who runs it."""


class RecipeError(KdcamError):
    """A recipe, an override or a flag asks for something that cannot be."""


class ModelError(KdcamError):
    """A network is unknown, cannot be built, or has not what a loss needs."""


class DataError(KdcamError):
    """Images, labels or folders are missing, broken or do not fit."""


class CheckpointError(KdcamError):
    """A run folder or a weight file cannot be read, written or does not fit."""


class FolderInUseError(CheckpointError):
    """Another process is writing to the folder; when it ends, the same works."""


class TrainingError(KdcamError):
    """A run cannot go on: a loss is no longer finite; or none of several runs came to its end."""


class OutOfMemory(KdcamError):
    """The machine or the device has less memory than a run asks for."""


class Interrupted(KdcamError):
    """The user asked a run to stop; its state was kept and the same command goes on."""


__all__ = [
    "CheckpointError",
    "DataError",
    "FolderInUseError",
    "Interrupted",
    "KdcamError",
    "ModelError",
    "OutOfMemory",
    "RecipeError",
    "TrainingError",
]
