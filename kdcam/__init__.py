"""Train, distil and stress-test image classifiers with losses on class activation maps and feature channels."""

from importlib import import_module

# Not typing's, which takes a while to import: the command may be stopped in that time.
TYPE_CHECKING = False
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

# Name -> module. Imported at first use: `kdcam --help` imports this package and must not wait for torch.
_HOMES = {
    "Classifier": "kdcam.models.classifier",
    "DistillRecipe": "kdcam.recipe.train_recipe",
    "KdcamError": "kdcam.errors",
    "LOSSES": "kdcam.losses",
    "TrainRecipe": "kdcam.recipe.train_recipe",
    "compare": "kdcam.comparison.execution",
    "distill": "kdcam.api",
    "evaluate": "kdcam.api",
    "evaluate_few_shot": "kdcam.evaluation.few_shot.few_shot_evaluation",
    "evaluate_robustness": "kdcam.evaluation.robustness.robustness_evaluation",
    "explain": "kdcam.explanation.explanation_pictures",
    "export": "kdcam.runs.network_export",
    "finetune": "kdcam.api",
    "load": "kdcam.runs.open_run",
    "load_recipe": "kdcam.recipe.train_recipe",
    "localize": "kdcam.evaluation.localization.localization_evaluation",
    "make_pairs": "kdcam.evaluation.verification.pair_drawing",
    "predict": "kdcam.api",
    "read_episodes": "kdcam.evaluation.few_shot.few_shot_evaluation",
    "train": "kdcam.api",
    "verify": "kdcam.evaluation.verification.verification_evaluation",
}

_SUBPACKAGES = (
    "attacks",
    "cam",
    "comparison",
    "corruptions",
    "data",
    "evaluation",
    "explanation",
    "losses",
    "models",
    "report",
    "runs",
    "scores",
    "training",
)


def __getattr__(name: str) -> "Any":
    if name == "__version__":
        from importlib.metadata import version  # slow, and seldom asked for

        return version("kdcam")
    if name in _SUBPACKAGES:
        return import_module(f"kdcam.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'kdcam' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


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
