"""Which tests compute, by the names of their folders and files, so that a move to another folder changes nothing.

The other tests read, write and check words: they need no other settings of the processor.
"""

from pathlib import Path

FOLDERS = (
    "attacks",
    "cam",
    "corruptions",
    "few_shot",
    "localization",
    "losses",
    "robustness",
    "teachers",
    "verification",
)
FILES = (
    "test_adversarial_training.py",
    "test_cifar_resnet.py",
    "test_adversarial_images.py",
    "test_earlier_runs.py",
    "test_embeddings.py",
    "test_engine.py",
    "test_finetuning.py",
    "test_golden.py",
    "test_linear_probe.py",
    "test_saved_state.py",
    "test_classification.py",
    "test_config_json.py",
    "test_training_run.py",
)
# Two runs that must be equal to the last bit, and what has references of its own: also on two threads.
BITS = (
    "test_adversarial_training.py",
    "test_adversarial_images.py",
    "test_engine.py",
    "test_finetuning.py",
    "test_golden.py",
    "test_cached_teacher_golden_views.py",
    "test_memorisation.py",
    "test_saved_state.py",
    "test_cached_teacher_shared.py",
)
_TESTS = Path(__file__).parent


def markers(file: Path) -> list[str]:
    """Return the markers that the tests of a file have."""
    inside = file.relative_to(_TESTS)
    computes = file.name in FILES or any(folder in FOLDERS for folder in inside.parts[:-1])
    return ["numeric"] * computes + ["bits"] * (file.name in BITS)
