"""What must fit between the tables of a recipe, each problem with its way out; told when a recipe is read."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdcam.data.common_config import PictureConfig
from kdcam.data.episodes_config import episode_problems
from kdcam.losses import LOSSES
from kdcam.recipe.adversary import adversary_problems
from kdcam.recipe.probe_recipe import probe_problems
from kdcam.settings.messages import listed

if TYPE_CHECKING:
    from kdcam.models.model_config import ModelConfig
    from kdcam.recipe.train_recipe import TrainRecipe

HEAD_NEEDS = {"cosine_head": "cosine", "unit_weight_head": "unit-weight", "gaussian_head": "gaussian"}


def recipe_problems(recipe: "TrainRecipe") -> Iterator[str]:
    """Yield what does not fit between the tables of a recipe."""
    yield from _task_problems(recipe)
    yield from _selection_problems(recipe)
    yield from _loss_problems(recipe)
    if recipe.init is None:
        yield from model_problems(recipe, recipe.model)
    else:
        yield from _start_problems(recipe)
    yield from adversary_problems(recipe)
    yield from episode_problems(recipe)


def _task_problems(recipe: "TrainRecipe") -> Iterator[str]:
    if recipe.task == "single-label" and recipe.data.gives_rows:
        yield (
            f'task: found "single-label", but the data ({recipe.data.name}) gives several labels an image; '
            'set task = "multi-label", or take data of one label an image (digit-scenes: data.multi_label = false)'
        )
    if recipe.task == "multi-label" and recipe.published is not None:
        yield "published: is a top-1 accuracy, which a multi-label run does not have; remove the table"
    if recipe.task == "multi-label" and not recipe.data.gives_rows:
        yield (
            f'task: found "multi-label", but the data ({recipe.data.name}) gives one label an image; '
            'set task = "single-label", or take digit-scenes with multi_label = true, image-labels or yolo-labels'
        )


def _selection_problems(recipe: "TrainRecipe") -> Iterator[str]:
    if recipe.select == "best" and recipe.data.validation == 0 and not isinstance(recipe.data, PictureConfig):
        yield (
            'data.validation: found 0 with select = "best", which leaves nothing to select on; '
            'hold a part out (validation = 0.1) or take the last epoch (select = "last")'
        )


def _loss_problems(recipe: "TrainRecipe") -> Iterator[str]:
    if not recipe.loss:
        yield 'loss: found no [[loss]] table; at least one is needed, as in name = "cross_entropy"'
    elif all(loss.weight_at(0.0) == 0 for loss in recipe.loss):
        yield (
            "loss: no term has a weight at the start of the run, so there is nothing to learn from; give one a "
            "weight above 0, start = 0 and warmup = 0"
        )
    elif not any(loss.trains_classifier and loss.weight_at(0.0) > 0 for loss in recipe.loss):
        trainers = listed(
            name
            for name, kind in LOSSES.items()
            if kind.trains_classifier and recipe.target_kind in kind.takes
        )
        yield (
            "loss: no term trains the classifier from the start of the run; add one of these with start = 0: "
            f"{trainers}"
        )
    for index, loss in enumerate(recipe.loss):
        place = f"loss[{index}] ({loss.name})"
        if recipe.target_kind not in loss.takes:
            others = listed(name for name, kind in LOSSES.items() if recipe.target_kind in kind.takes)
            yield (
                f"{place}: takes {listed(sorted(loss.takes))} as targets, and {_target_reason(recipe)}; "
                f"losses that take those: {others}"
            )
        if loss.reads_teacher() and not recipe.has_teacher:
            yield (
                f"{place}: needs a teacher; name one (kdcam distill RECIPE --teacher RUN, or a [teacher] table), "
                "or remove the loss"
            )


def model_problems(recipe: "TrainRecipe", model: "ModelConfig") -> Iterator[str]:
    """Yield what does not fit between a recipe and the network that it trains.

    With an [init] table the checkpoint tells the network, so that this is asked before training starts.
    """
    if recipe.task == "multi-label" and model.head == "gaussian":
        yield (
            'model.head: found "gaussian" with task = "multi-label", but its logits mean something under a softmax '
            'only; set head = "linear"'
        )
    for index, loss in enumerate(recipe.loss):
        if "channel_attention" in loss.needs and not model.channel_attention:
            yield (
                f"loss[{index}] ({loss.name}): reads the channel attention, and the model has no such block; set "
                "model.channel_attention = true"
            )
        if model.head in loss.misfit_heads:
            yield (
                f'loss[{index}] ({loss.name}): reads the lengths of maps, which head = "{model.head}" divides '
                'out; set model.head = "linear"'
            )
    wanted = {
        f"loss[{index}] ({loss.name})": head
        for index, loss in enumerate(recipe.loss)
        for need, head in HEAD_NEEDS.items()
        if need in loss.needs
    }
    needs = listed(f'{place} needs head = "{head}"' for place, head in wanted.items())
    if len(set(wanted.values())) > 1:
        yield f"loss: {needs}, and a model has one head; leave all but one kind out"
    elif any(head != model.head for head in wanted.values()):
        head = next(iter(wanted.values()))
        yield f'{needs}, and the model has head = "{model.head}"; set model.head = "{head}"'
    yield from probe_problems(recipe, model)


def _start_problems(recipe: "TrainRecipe") -> Iterator[str]:
    """Yield what [model] may not say beside [init]."""
    for key in ("pretrained", "weights"):
        value = getattr(recipe.model, key)
        if value:
            yield (
                f"model.{key}: found {json.dumps(value)} beside an [init] table, which tells what the run starts from; "
                "remove the key or the table"
            )


def _target_reason(recipe: "TrainRecipe") -> str:
    if recipe.task == "multi-label":
        return 'task = "multi-label" gives multi-label rows'
    return (
        "data.mixup or data.cutmix above 0 gives mixed rows"
        if recipe.target_kind == "mixed"
        else "these are labels"
    )


__all__ = ["HEAD_NEEDS", "model_problems", "recipe_problems"]
