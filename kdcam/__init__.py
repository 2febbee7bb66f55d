"""Train, distil and stress-test image classifiers with losses on class activation maps and feature channels."""

from importlib import import_module

TYPE_CHECKING = (
    False  # as that of typing, which takes a while to import: the command may be stopped in that time
)
if TYPE_CHECKING:
    from typing import Any

    from kdcam.api import distill, evaluate, finetune, predict, train
    from kdcam.comparison.execution import compare
    from kdcam.errors import KdcamError
    from kdcam.evaluation.few_shot.few_shot_evaluation import evaluate_few_shot, read_episodes
    from kdcam.evaluation.localization.localization_evaluation import localize
    from kdcam.evaluation.robustness.robustness_evaluation import evaluate_robustness
    from kdcam.evaluation.verification.pair_drawing import make_pairs
    from kdcam.evaluation.verification.verification_evaluation import verify
    from kdcam.explanation.explanation_pictures import explain
    from kdcam.losses import LOSSES
    from kdcam.models.classifier import Classifier
    from kdcam.recipe.train_recipe import DistillRecipe, TrainRecipe, load_recipe
    from kdcam.runs.network_export import export
    from kdcam.runs.open_run import load

    __version__: str

# Name -> (module, name there). Imported at first use: `kdcam --help` imports this package and must not wait for torch.
_HOMES = {
    "Classifier": ("kdcam.models.classifier", "Classifier"),
    "DistillRecipe": ("kdcam.recipe.train_recipe", "DistillRecipe"),
    "KdcamError": ("kdcam.errors", "KdcamError"),
    "LOSSES": ("kdcam.losses", "LOSSES"),
    "TrainRecipe": ("kdcam.recipe.train_recipe", "TrainRecipe"),
    "compare": ("kdcam.comparison.execution", "compare"),
    "distill": ("kdcam.api", "distill"),
    "evaluate": ("kdcam.api", "evaluate"),
    "evaluate_few_shot": ("kdcam.evaluation.few_shot.few_shot_evaluation", "evaluate_few_shot"),
    "evaluate_robustness": ("kdcam.evaluation.robustness.robustness_evaluation", "evaluate_robustness"),
    "explain": ("kdcam.explanation.explanation_pictures", "explain"),
    "export": ("kdcam.runs.network_export", "export"),
    "finetune": ("kdcam.api", "finetune"),
    "load": ("kdcam.runs.open_run", "load"),
    "load_recipe": ("kdcam.recipe.train_recipe", "load_recipe"),
    "localize": ("kdcam.evaluation.localization.localization_evaluation", "localize"),
    "make_pairs": ("kdcam.evaluation.verification.pair_drawing", "make_pairs"),
    "predict": ("kdcam.api", "predict"),
    "read_episodes": ("kdcam.evaluation.few_shot.few_shot_evaluation", "read_episodes"),
    "train": ("kdcam.api", "train"),
    "verify": ("kdcam.evaluation.verification.verification_evaluation", "verify"),
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
