"""Which recipes are solved rather than trained in steps: linear probes by cross-entropy alone."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdcam.losses.cross_entropy import CrossEntropyConfig

if TYPE_CHECKING:
    from kdcam.models.model_config import ModelConfig
    from kdcam.recipe.train_recipe import TrainRecipe


_STEPPING = ("epochs", "batch_size", "optimizer", "schedule")


def is_solved_probe(recipe: "TrainRecipe", model: "ModelConfig") -> bool:
    """Return whether a recipe's classifier has a minimum that is computed, on features that never change.

    So it is where nothing but the classifier ever learns, by plain cross-entropy alone. Any other loss, smoothed or
    class-balanced cross-entropy, a teacher, an adversary, episodes or a head of ``model`` (the network that is
    trained) other than the linear one: the classifier is trained in steps.
    """
    if recipe.init is None or not recipe.init.is_probe or len(recipe.loss) != 1:
        return False
    loss = recipe.loss[0]
    is_plain = isinstance(loss, CrossEntropyConfig) and not (loss.label_smoothing or loss.class_balance_beta)
    is_alone = not recipe.has_teacher and recipe.adversary is None and recipe.episodes is None
    return is_plain and is_alone and model.head == "linear"


def probe_problems(recipe: "TrainRecipe", model: "ModelConfig") -> Iterator[str]:
    """Yield what does nothing where `is_solved`, each with its way out."""
    if not is_solved_probe(recipe, model):
        return
    changes = {"augment": list(recipe.data.augment), "mixup": recipe.data.mixup, "cutmix": recipe.data.cutmix}
    for key, value in changes.items():
        if value:
            yield (
                f'data.{key}: found {value} with init.frozen = "all" and cross_entropy alone, which is solved on '
                f"features of the images as they are; leave {key} out, or let stages learn (init.frozen, init.unfreeze)"
            )
    steps = {
        "accumulate": recipe.accumulate != 1,
        "clip_norm": recipe.clip_norm,
        "ema_decay": recipe.ema_decay,
    }
    for key, is_set in steps.items():
        if is_set:
            yield (
                f'{key}: found {getattr(recipe, key):g} with init.frozen = "all" and cross_entropy alone, which is '
                f"solved without steps; leave {key} out, or let stages learn (init.frozen, init.unfreeze)"
            )


def idle_settings(recipe: "TrainRecipe", model: "ModelConfig") -> tuple[str, ...]:
    """Return the keys that do nothing where `is_solved`: those that any recipe has, and what else is set."""
    others = {
        "loss.weight": recipe.loss[0].weight != 1,
        "precision": recipe.precision != "auto",
        "compile": recipe.compile,
        "model.drop_rate": bool(model.drop_rate),
        "model.drop_path_rate": bool(model.drop_path_rate),
    }
    return (*_STEPPING, *(key for key, is_set in others.items() if is_set))


__all__ = ["idle_settings", "is_solved_probe", "probe_problems"]
