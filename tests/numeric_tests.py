"""Which tests compute, by the names of their folders and files, so that a move to another folder changes nothing.

The other tests read, write and check words: they need no other settings of the processor.
"""

from pathlib import Path

FOLDERS = ("cam", "few_shot", "localization", "losses", "robustness", "teacher_cache", "verification")
FILES = (
    "test_adversarial_training.py",
    "test_cifar_resnet.py",
    "test_crafting.py",
    "test_embeddings.py",
    "test_engine.py",
    "test_finetuning.py",
    "test_golden.py",
    "test_linear_probe.py",
    "test_resume.py",
    "test_scores.py",
    "test_stored_model.py",
    "test_teachers.py",
    "test_training.py",
)
# Two runs that must be equal to the last bit, and what has references of its own: also on two threads.
BITS = (
    "test_adversarial_training.py",
    "test_crafting.py",
    "test_engine.py",
    "test_finetuning.py",
    "test_golden.py",
    "test_golden_views.py",
    "test_memorisation.py",
    "test_resume.py",
    "test_shared_cache.py",
)
_TESTS = Path(__file__).parent


def markers(file: Path) -> list[str]:
    """Return the markers that the tests of a file have."""
    inside = file.relative_to(_TESTS)
    computes = file.name in FILES or any(folder in FOLDERS for folder in inside.parts[:-1])
    return ["numeric"] * computes + ["bits"] * (file.name in BITS)
