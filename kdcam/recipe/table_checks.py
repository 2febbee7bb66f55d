"""What must fit between the tables of a recipe, each problem with its way out, and which keys do nothing."""

import json
from collections.abc import Iterator, Sequence

from kdcam.data.common_config import PictureConfig
from kdcam.data.source_configs import DataConfig
from kdcam.files.paths import teacher_cache_folder
from kdcam.losses import LOSSES
from kdcam.losses.cross_entropy import CrossEntropyConfig
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.adversary_settings import AdversaryConfig
from kdcam.recipe.recipe_fields import RecipeFields, TeacherConfig
from kdcam.settings.messages import listed

HEAD_NEEDS = {"cosine_head": "cosine", "unit_weight_head": "unit-weight", "gaussian_head": "gaussian"}
_OF_STEPS = ("epochs", "batch_size", "optimizer", "schedule")  # mean nothing where a classifier is solved


def recipe_problems(recipe: RecipeFields) -> Iterator[str]:
    """Yield what does not fit between the tables of a recipe."""
    yield from _task_problems(recipe)
    yield from _selection_problems(recipe)
    yield from _loss_problems(recipe)
    if recipe.init is None:
        yield from model_problems(recipe, recipe.model)
    else:
        yield from _start_problems(recipe)
    yield from _adversary_problems(recipe)
    yield from _episode_problems(recipe)


def _task_problems(recipe: RecipeFields) -> Iterator[str]:
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


def _selection_problems(recipe: RecipeFields) -> Iterator[str]:
    if recipe.select == "best" and recipe.data.validation == 0 and not isinstance(recipe.data, PictureConfig):
        yield (
            'data.validation: found 0 with select = "best", which leaves nothing to select on; '
            'hold a part out (validation = 0.1) or take the last epoch (select = "last")'
        )


def _loss_problems(recipe: RecipeFields) -> Iterator[str]:
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


def model_problems(recipe: RecipeFields, model: ModelConfig) -> Iterator[str]:
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
    yield from _probe_problems(recipe, model)


def _start_problems(recipe: RecipeFields) -> Iterator[str]:
    """Yield what [model] may not say beside [init]."""
    for key in ("pretrained", "weights"):
        value = getattr(recipe.model, key)
        if value:
            yield (
                f"model.{key}: found {json.dumps(value)} beside an [init] table, which tells what the run starts from; "
                "remove the key or the table"
            )


def _target_reason(recipe: RecipeFields) -> str:
    if recipe.task == "multi-label":
        return 'task = "multi-label" gives multi-label rows'
    return (
        "data.mixup or data.cutmix above 0 gives mixed rows"
        if recipe.target_kind == "mixed"
        else "these are labels"
    )


def _episode_problems(recipe: RecipeFields) -> Iterator[str]:
    """Yield what does not fit between a recipe's episodes and its other tables, each with its way out."""
    episodes = recipe.episodes
    if episodes is None:
        return
    if recipe.task == "multi-label":
        yield (
            'episodes: found with task = "multi-label", but an episode is of images with one label each; remove the '
            "[episodes] table, or take data of single labels"
        )
    if recipe.batch_size != episodes.images:
        yield (
            f"batch_size: found {recipe.batch_size}, but a batch is an episode of {episodes.ways} ways x "
            f"({episodes.shots} shots + {episodes.queries} queries) = {episodes.images} images; leave batch_size out"
        )
    for index, loss in enumerate(recipe.loss):
        shots = getattr(loss, "shots", episodes.shots)
        if shots != episodes.shots:
            yield (
                f"loss[{index}] ({loss.name}): found shots = {shots}, but episodes.shots is {episodes.shots}; leave "
                "shots out of the loss"
            )


def _adversary_problems(recipe: RecipeFields) -> Iterator[str]:
    """Yield what does not fit between a recipe's [adversary] table and the rest of it, each with the way out."""
    if recipe.adversary is None:
        yield from _problems_without_adversary(recipe)
    else:
        yield from _problems_with_adversary(recipe, recipe.adversary)


def _problems_without_adversary(recipe: RecipeFields) -> Iterator[str]:
    for index, loss in enumerate(recipe.loss):
        place = f"loss[{index}] ({loss.name})"
        if "clean" in loss.needs:
            yield (
                f"{place}: compares the student's outputs of clean and of adversarial images, and the recipe makes "
                'none; add an [adversary] table (attack = "pgd"), or remove the loss'
            )
        elif loss.images == "clean":
            yield (
                f'{place}.images: found "clean" without an [adversary] table, where all images are clean; leave '
                "images out, or add the table"
            )


def _problems_with_adversary(recipe: RecipeFields, adversary: AdversaryConfig) -> Iterator[str]:
    for index, loss in enumerate(recipe.loss):
        if "clean" in loss.needs and loss.images == "clean":
            yield (
                f'loss[{index}] ({loss.name}).images: found "clean", but the loss reads the adversarial images '
                "beside the clean ones; leave images out"
            )
    if recipe.loss and all(loss.images == "clean" for loss in recipe.loss):
        yield (
            'adversary: every loss has images = "clean", so that no adversarial image is trained on; leave images out '
            "of one, add a loss (kl_to_clean), or remove the [adversary] table"
        )
    if adversary.maximise != "cross_entropy" and recipe.task == "multi-label":
        yield (
            f'adversary.maximise: found "{adversary.maximise}" with task = "multi-label", but it compares softmax '
            'predictions of one label an image; set maximise = "cross_entropy"'
        )
    if adversary.maximise == "kl_to_teacher" and not recipe.has_teacher:
        yield (
            'adversary.maximise: found "kl_to_teacher" without a teacher; name one (kdcam distill RECIPE --teacher '
            'RUN, or a [teacher] table), or set maximise = "cross_entropy"'
        )


def cache_problems(teachers: Sequence[TeacherConfig], data: DataConfig) -> Iterator[str]:
    """Yield why the teachers' outputs cannot be cached, each with the way out; nothing where none are to be."""
    cached = [teacher for teacher in teachers if teacher.cache == "views"]
    if not cached:
        return
    if len({(teacher.cache, teacher.views, teacher.views_seed) for teacher in teachers}) > 1:
        yield (
            "teacher: all teachers see the same view of an image, so their cache, views and views_seed must be equal; "
            "give each [[teacher]] table the same"
        )
    folders = [
        teacher_cache_folder(teacher.cache_folder) for teacher in cached if teacher.cache_folder is not None
    ]
    if len(set(folders)) < len(folders):
        yield (
            "teacher.cache_folder: is the same for several teachers; give each a folder of its own, or leave it out"
        )
    blends = {"data.mixup": data.mixup, "data.cutmix": data.cutmix}
    for key, value in blends.items():
        if value > 0:
            yield (
                f'{key}: found {value:g} with teacher.cache = "views", but an image is blended with another one at '
                f'each step, which no cache holds; set {key} = 0, or teacher.cache = "none"'
            )
    if "cutout" in data.augment:
        yield (
            'data.augment: found "cutout" with teacher.cache = "views", whose few views would hide the same squares '
            'in every epoch; remove it, or set teacher.cache = "none"'
        )


def is_solved_probe(recipe: RecipeFields, model: ModelConfig) -> bool:
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


def _probe_problems(recipe: RecipeFields, model: ModelConfig) -> Iterator[str]:
    """Yield what does nothing where `is_solved_probe`, each with its way out."""
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


def idle_settings(recipe: RecipeFields, model: ModelConfig) -> tuple[str, ...]:
    """Return the keys that do nothing where `is_solved_probe`: those that any recipe has, and what else is set."""
    others = {
        "loss.weight": recipe.loss[0].weight != 1,
        "precision": recipe.precision != "auto",
        "compile": recipe.compile,
        "model.drop_rate": bool(model.drop_rate),
        "model.drop_path_rate": bool(model.drop_path_rate),
    }
    return (*_OF_STEPS, *(key for key, is_set in others.items() if is_set))


__all__ = [
    "HEAD_NEEDS",
    "cache_problems",
    "idle_settings",
    "is_solved_probe",
    "model_problems",
    "recipe_problems",
]
