"""Train, distil and stress-test image classifiers with losses on class activation maps and feature channels."""

from importlib import import_module

TYPE_CHECKING = (
    False  # as that of typing, which takes a while to import: the command may be stopped in that time
)
if TYPE_CHECKING:
    from typing import Any

    from kdcam.api import distill, evaluate, finetune, load, predict, train
    from kdcam.comparison.running import compare
    from kdcam.data.drawn_pairs import make_pairs
    from kdcam.errors import KdcamError
    from kdcam.explaining import explain
    from kdcam.exporting import export
    from kdcam.few_shot.episode_files import read_episodes
    from kdcam.few_shot.runs import evaluate_few_shot
    from kdcam.localization.runs import localize
    from kdcam.losses import LOSSES
    from kdcam.models.classifier import Classifier
    from kdcam.recipe import DistillRecipe, TrainRecipe
    from kdcam.recipe import load as load_recipe
    from kdcam.robustness.runs import evaluate_robustness
    from kdcam.verification.runs import verify

    __version__: str

# Name -> (module, name there). Imported at first use: `kdcam --help` imports this package and must not wait for torch.
_HOMES = {
    "Classifier": ("kdcam.models.classifier", "Classifier"),
    "DistillRecipe": ("kdcam.recipe", "DistillRecipe"),
    "KdcamError": ("kdcam.errors", "KdcamError"),
    "LOSSES": ("kdcam.losses", "LOSSES"),
    "TrainRecipe": ("kdcam.recipe", "TrainRecipe"),
    "compare": ("kdcam.comparison.running", "compare"),
    "distill": ("kdcam.api", "distill"),
    "evaluate": ("kdcam.api", "evaluate"),
    "evaluate_few_shot": ("kdcam.few_shot.runs", "evaluate_few_shot"),
    "evaluate_robustness": ("kdcam.robustness.runs", "evaluate_robustness"),
    "explain": ("kdcam.explaining", "explain"),
    "export": ("kdcam.exporting", "export"),
    "finetune": ("kdcam.api", "finetune"),
    "load": ("kdcam.api", "load"),
    "load_recipe": ("kdcam.recipe", "load"),
    "localize": ("kdcam.localization.runs", "localize"),
    "make_pairs": ("kdcam.data.drawn_pairs", "make_pairs"),
    "predict": ("kdcam.api", "predict"),
    "read_episodes": ("kdcam.few_shot.episode_files", "read_episodes"),
    "train": ("kdcam.api", "train"),
    "verify": ("kdcam.verification.runs", "verify"),
}


_SUBPACKAGES = (
    "cam",
    "comparison",
    "data",
    "few_shot",
    "localization",
    "losses",
    "models",
    "report",
    "robustness",
    "verification",
)


def __getattr__(name: str) -> "Any":
    if name == "__version__":
        from importlib.metadata import version

        return version("kdcam")
    if name in _SUBPACKAGES:
        return import_module(f"kdcam.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'kdcam' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})


__all__ = [
    "LOSSES",
    "Classifier",
    "DistillRecipe",
    "KdcamError",
    "TrainRecipe",
    "__version__",
    "compare",
    "distill",
    "evaluate",
    "evaluate_few_shot",
    "evaluate_robustness",
    "explain",
    "export",
    "finetune",
    "load",
    "load_recipe",
    "localize",
    "make_pairs",
    "predict",
    "read_episodes",
    "train",
    "verify",
]
