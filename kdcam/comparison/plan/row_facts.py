"""When two rows are one run, see the same data, or are what a recipe's published number stands for."""

import json
from collections.abc import Sequence

from kdcam.comparison.plan.grid import key_of
from kdcam.comparison.plan.row_recipes import row_table
from kdcam.comparison.plan.variants import Variant
from kdcam.errors import RecipeError
from kdcam.recipe.recipe_fields import Published
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe

# Where a run is made and how fast, and its teacher, which flags name anew on each machine; a method has its own number.
_KEYS_WITHOUT_EFFECT = ("compile", "data.root", "data.workers", "method", "precision")
# How training treats the data that it is given, which is what a comparison may be about; validation and test stay.
_TRAINING_DATA_KEYS = {"augment", "cutmix", "mixup", "noise", "workers"}


def recipe_identity(recipe: TrainRecipe) -> str:
    """Return what decides the runs of a row, whose seed is each cell's own."""
    facts = recipe.model_dump(mode="json", exclude={"description", "published", "seed"})
    return json.dumps(facts, sort_keys=True)


def have_same_data(one: TrainRecipe, other: TrainRecipe) -> bool:
    """Return whether the scores of two recipes are of the same images, and of training on the same ones.

    However they augment and mix them, and whatever noise the training labels have; another split or size makes other
    data.
    """
    first, second = (
        recipe.data.model_dump(mode="json", exclude=_TRAINING_DATA_KEYS) for recipe in (one, other)
    )
    return first == second


def published_number(
    recipe: TrainRecipe,
    variant: Variant,
    *,
    settings: Sequence[str],
    sets: Sequence[str],
    teachers: Sequence[str],
) -> Published | None:
    """Return the number of a row's recipe where the row has the settings of the recipe's file, for which it stands.

    Args:
        recipe: The row's, with all settings put in.
        variant: The row's recipe as it was named, with its method or losses.
        settings: Those of the grid; of these only ``method`` leaves a number standing: its own.
        sets: Settings that all rows share; of these only some leave the number standing: of the method, of the teacher,
            and of where and how fast the runs are made.
        teachers: Checkpoints in the place of the recipe's own.
    """
    if recipe.published is None:
        return None
    neutral = [
        one for one in sets if key_of(one) in _KEYS_WITHOUT_EFFECT or key_of(one).startswith("teacher.")
    ]
    neutral += [one for one in settings if key_of(one) == "method"]
    try:
        own = row_table(
            variant.source, method=variant.method, losses=variant.losses, settings=neutral, teachers=teachers
        )
        said = read_recipe(own.table, source=variant.source)
    except RecipeError:  # by itself it says too little
        return None
    return recipe.published if recipe_identity(said) == recipe_identity(recipe) else None


__all__ = ["have_same_data", "published_number", "recipe_identity"]
