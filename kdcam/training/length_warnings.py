"""Settings that do not fit the length of a run: legal, but never (fully) in force; with the number that fits."""

import math
from collections.abc import Iterator

from kdcam.data.batches.batch import batch_bounds
from kdcam.losses.loss import LossConfig, term_names
from kdcam.losses.shared.angular_margins import AnnealedMarginConfig
from kdcam.optim.schedule import MultistepConfig, TimmScheduleConfig
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.settings.messages import listed

# All kdcam's choice.
_OF_THE_START = 0.01  # of a moving average: the share of the starting weights that may be left at the end
_LAST_MILESTONE = 0.9  # of the run, where milestones are scaled to it
_WARMUP = 0.1  # of the run
_ROUNDING = 1e-9
_LARGEST_EXPONENT = 50.0  # of e, in a gamma that is named
_TIMM_STEP = 90  # epochs: create_scheduler_v2's decay_epochs where none is given


# Why these are warnings: docs/decisions/027.
def length_warnings(recipe: TrainRecipe, *, train_images: int | None) -> tuple[str, ...]:
    """Return a sentence for each setting of a recipe that does not fit its number of epochs, steps or updates.

    ``train_images``: of the training part; None: not known yet, and what depends on the number of steps is left out.
    """
    warnings = [*_of_schedule(recipe), *_of_views(recipe)]
    if train_images is None:
        return tuple(warnings)
    steps = steps_an_epoch(recipe, train_images)
    if steps > 0:
        warnings += [
            *_of_accumulation(recipe, steps),
            *_of_average(recipe, steps),
            *_of_losses(recipe, steps),
            *_of_unfreezing(recipe, steps),
        ]
    return tuple(warnings)


def steps_an_epoch(recipe: TrainRecipe, train_images: int) -> int:
    """Return how many batches an epoch has."""
    if recipe.episodes is not None:
        return recipe.episodes.per_epoch
    return len(batch_bounds(train_images, recipe.batch_size, drop_single=True))


def last_progress(epochs: int, steps: int, *, accumulate: int = 1) -> float:
    """Return at which fraction of a run its last update's first step is done."""
    group = (steps - 1) // accumulate * accumulate
    return (epochs - 1 + group / steps) / epochs


def _of_schedule(recipe: TrainRecipe) -> Iterator[str]:
    schedule, epochs = recipe.schedule, recipe.epochs
    if schedule.warmup_epochs >= epochs:
        fits = f"{_WARMUP * epochs:.2g}"
        if isinstance(schedule, TimmScheduleConfig):  # whole epochs
            fits = f"{int(_WARMUP * epochs)}"
        yield (
            f"schedule.warmup_epochs: found {schedule.warmup_epochs:g} in a run of {_epochs(epochs)}, so that the "
            f"learning rate never reaches optimizer.lr; a tenth of the run is {fits}"
        )
    if isinstance(schedule, MultistepConfig):
        yield from _of_milestones(schedule, epochs)
    if isinstance(schedule, TimmScheduleConfig):
        yield from _of_timm(schedule, epochs)


def _of_milestones(schedule: MultistepConfig, epochs: int) -> Iterator[str]:
    late = [milestone for milestone in schedule.milestones if milestone >= epochs]
    if late:
        share = _LAST_MILESTONE * epochs / max(schedule.milestones)
        fits = ", ".join(_short(milestone * share) for milestone in schedule.milestones)
        never = "never falls" if len(late) == len(schedule.milestones) else "falls less often"
        yield (
            f"schedule.milestones: found {_numbers(late)} in a run of {_epochs(epochs)}, so that the learning rate "
            f"{never}; scaled to this run they are [{fits}]"
        )
    early = [milestone for milestone in schedule.milestones if milestone <= schedule.warmup_epochs < epochs]
    if early:
        yield (
            f"schedule.milestones: found {_numbers(early)} within a warm-up of {schedule.warmup_epochs:g} epochs, so "
            f"that the learning rate never reaches optimizer.lr; set schedule.warmup_epochs below {early[0]:g}"
        )


def _of_timm(schedule: TimmScheduleConfig, epochs: int) -> Iterator[str]:
    options = schedule.options
    decay = options.get("decay_epochs", _TIMM_STEP)
    if schedule.name == "step" and decay > epochs - 1:  # timm sets the rate as an epoch begins
        found = f"found {decay:g}" if "decay_epochs" in options else f"none is given, which is {decay:g}"
        way_out = (
            f"a third of the run is {_short(epochs / 3, digits=2)}" if epochs > 1 else "take another schedule"
        )
        yield (
            f"schedule.options.decay_epochs: {found} in a run of {_epochs(epochs)}, so that the learning rate never "
            f"falls; {way_out}"
        )
    cycles = [key for key in ("cycle_limit", "cycle_mul", "cycle_decay") if key in options]
    if schedule.name != "step" and cycles and options.get("cycle_limit", 1) > 1:
        yield (
            f"schedule.options: found {listed(cycles)}, but the first cycle is as long as the run ({_epochs(epochs)}), "
            "so that no other begins; the cycle_limit that fits is 1"
        )
    if options.get("cooldown_epochs", 0) > 0:
        yield (
            f"schedule.options.cooldown_epochs: found {options['cooldown_epochs']:g}, but a cool-down comes after the "
            f"{_epochs(epochs)} of the run; the number that fits is 0"
        )


def _of_views(recipe: TrainRecipe) -> Iterator[str]:
    for teacher in recipe.teachers[:1]:  # the others have the same
        if teacher.views is not None and teacher.views > recipe.epochs:
            yield (
                f"teacher.views: found {teacher.views} in a run of {_epochs(recipe.epochs)}, which sees each image "
                f"once an epoch, so that most views are made for nothing; at most {recipe.epochs} fit"
            )


def _of_accumulation(recipe: TrainRecipe, steps: int) -> Iterator[str]:
    if recipe.accumulate > steps:
        yield (
            f"accumulate: found {recipe.accumulate} where an epoch has {steps} steps, and a group ends with its epoch; "
            f"at most {steps} fit"
        )


def _of_average(recipe: TrainRecipe, steps: int) -> Iterator[str]:
    updates = recipe.epochs * math.ceil(steps / recipe.accumulate)
    left = recipe.ema_decay**updates
    if left > _OF_THE_START:
        yield (
            f"ema_decay: found {recipe.ema_decay:g} in a run of {_counted(updates, 'update')}, after which "
            f"{_share(left)} of the average is still the starting weights; {_fitting_decay(updates)} or less fits"
        )


def _fitting_decay(updates: int) -> str:
    """Return a decay of few digits that leaves no more of the start than is allowed."""
    short = 1 - _OF_THE_START ** (1 / updates)
    digit = 10.0 ** math.floor(math.log10(short))
    return f"{1 - math.ceil(short / digit) * digit:.10g}"


def _of_losses(recipe: TrainRecipe, steps: int) -> Iterator[str]:
    last = last_progress(recipe.epochs, steps)
    for name, loss in zip(term_names(recipe.loss), recipe.loss, strict=True):
        if loss.start > last:
            yield (
                f"loss {name}: start = {loss.start:g}, but the last of {recipe.epochs * steps} steps begins after "
                f"{last:.3g} of the run, so that the term is never in force; {_rounded_down(last)} or less fits"
            )
        elif loss.start + loss.warmup > 1 + _ROUNDING:
            yield (
                f"loss {name}: start = {loss.start:g} and warmup = {loss.warmup:g} end after the run, so that the term "
                f"reaches {_share(loss.weight_at(1.0) / loss.weight) if loss.weight else '0 %'} of its weight; warmup "
                f"= {_rounded_down(1 - loss.start + _ROUNDING)} or less fits"
            )
        yield from _of_annealing(name, loss, batches=recipe.epochs * steps)


def _of_annealing(name: str, loss: LossConfig, *, batches: int) -> Iterator[str]:
    """Yield where the margin of a loss never comes to half of the share that it would have at the floor."""
    if not isinstance(loss, AnnealedMarginConfig):
        return
    seen = max(1.0, batches * (1 - loss.start))
    wanted = 2 * loss.anneal_floor + 1
    last = loss.anneal_base * (1 + loss.anneal_gamma * seen) ** -loss.anneal_power
    if last <= wanted:
        return
    way_out = f"anneal_base = {wanted:g} or less fits"
    # With a power near 0 no gamma that a float holds is large enough.
    if loss.anneal_power * _LARGEST_EXPONENT > math.log(loss.anneal_base / wanted):
        fits = ((loss.anneal_base / wanted) ** (1 / loss.anneal_power) - 1) / seen
        way_out = f"anneal_gamma = {_rounded_up(fits)} or more fits"
    yield (
        f"loss {name}: lambda is still {last:.3g} after the last of {batches} batches, so that the margin counts for "
        f"{_share(1 / (1 + last))} of the label's logit at most; {way_out}"
    )


def _of_unfreezing(recipe: TrainRecipe, steps: int) -> Iterator[str]:
    last = last_progress(recipe.epochs, steps, accumulate=recipe.accumulate)
    if recipe.init is not None and last < recipe.init.unfreeze < 1:
        fits = _rounded_down(last)
        way_out = f"{fits} or less fits" if float(fits) > 0 else "leave it out, or train longer"
        yield (
            f"init.unfreeze: found {recipe.init.unfreeze:g}, but the last update begins after {last:.3g} of the run, "
            f"so that nothing would be unfrozen; {way_out}"
        )


def _epochs(count: int) -> str:
    return _counted(count, "epoch")


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _numbers(values: list[float]) -> str:
    return listed(f"{value:g}" for value in values)


def _share(value: float) -> str:
    return f"{_short(100 * value, digits=2)} %"


def _short(value: float, *, digits: int = 3) -> str:
    """Return a number with so many digits, and all of those before its point: 0.643, 1840."""
    return f"{value:.{digits}g}" if value < 10**digits - 0.5 else f"{value:.0f}"


def _rounded_down(value: float) -> str:
    return f"{math.floor(value * 1000) / 1000:g}"


def _rounded_up(value: float) -> str:
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value / digit) * digit:.2g}"


__all__ = ["last_progress", "length_warnings", "steps_an_epoch"]
