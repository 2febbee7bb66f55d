"""Distillation methods by name: the losses that ``--method`` fills into a recipe, with their published weights."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from kdcam.errors import RecipeError
from kdcam.losses import LOSSES
from kdcam.losses.loss import LossConfig
from kdcam.models.classifier import Task
from kdcam.recipe.recipe_files import apply_override, parse_value
from kdcam.settings.messages import did_you_mean, listed
from kdcam.settings.validation import validation_messages

_ON_LABELS: dict[Task, str] = {"single-label": "cross_entropy", "multi-label": "binary_cross_entropy"}
_LABELS = {"name": _ON_LABELS["single-label"]}
_OWN_SUMS: dict[str, tuple[dict[str, Any], ...]] = {
    # HobbitLong/RepDistiller, README: -r 0.1 -a 0.9, temperature 4
    "kd": ({**_LABELS, "weight": 0.1}, {"name": "kd", "weight": 0.9, "temperature": 4.0}),
    # sunshangquan/logit-standardization-KD: temperature 2, weight 9 (3, and 1 to 18, for some pairs)
    "kd_standardized": (
        {**_LABELS, "weight": 0.1},
        {"name": "kd", "weight": 9.0, "temperature": 2.0, "standardize": True},
    ),
    # kdcam's own loss, in the place of kd
    "cam_kd": ({**_LABELS, "weight": 0.1}, {"name": "cam_kd"}),
    # kdcam's choice, as in its quickstart
    "kd_caam_cam": (
        {**_LABELS, "weight": 0.1},
        {"name": "kd", "weight": 0.9, "temperature": 4.0},
        {"name": "caam_cam"},
    ),
}
_DECIDING = ("method", "methods", "task")  # the keys of a recipe that say which losses a method brings


def method_names() -> list[str]:
    """Return the methods, sorted: each loss that reads a teacher, and sums of several."""
    return sorted({*_OWN_SUMS, *(name for name, kind in LOSSES.items() if kind.reads_teacher())})


def label_loss(task: Task = "single-label") -> dict[str, Any]:
    """Return the ``[[loss]]`` table of the loss on the labels alone, as the task has them."""
    return {"name": _ON_LABELS[task]}


def method_losses(method: str, task: Task = "single-label") -> list[dict[str, Any]]:
    """Return a method's ``[[loss]]`` tables: one on the labels, as the task has them, and the method's own behind it.

    Its own is the loss of that name with its defaults, or a sum. Raises ``RecipeError`` for an unknown name.
    """
    if method not in method_names():
        guess = did_you_mean(method, method_names())
        raise RecipeError(f"method: found {method!r}{guess}; allowed: {listed(method_names())}")
    terms = [dict(term) for term in _OWN_SUMS.get(method, (_LABELS, {"name": method}))]
    terms[0] |= label_loss("multi-label" if task == "multi-label" else "single-label")
    return terms


def method_config(method: str) -> type[LossConfig]:
    """Return the settings that a recipe's ``[methods.METHOD]`` may change: of the method's last loss."""
    return LOSSES[method_losses(method)[-1]["name"]]


def asked_method(overrides: Sequence[str], method: str | None) -> str | None:
    """Return the method that is asked for in the place of a recipe's own: ``method``, else an override ``method=``."""
    if method is not None:
        return method
    said = [value for key, _, value in (one.partition("=") for one in overrides) if key.strip() == "method"]
    return str(parse_value(said[-1].strip())) if said else None


def fill_method(table: dict[str, Any], overrides: Sequence[str], method: str | None) -> list[str]:
    """Apply to a recipe's table in place what decides its losses; return the other overrides, which come after them.

    ``method`` counts before an override ``method=NAME``, and this before the recipe's own key. Raises ``RecipeError``
    as `apply_method` and `apply_override` do.
    """
    others: list[str] = []
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key == "method":
            continue
        if key.partition(".")[0] in _DECIDING:
            apply_override(table, override)
        else:
            others.append(override)
    apply_method(table, asked_method(overrides, method))
    return others


def apply_method(table: dict[str, Any], method: str | None) -> None:
    """Fill a recipe's table in place: the losses of a method, with what the recipe sets for it and its number.

    ``method`` counts before the recipe's own key ``method``, and takes the place of its ``[[loss]]`` tables; the key
    itself needs a recipe without them. Of ``[methods.METHOD]`` and ``[published.METHOD]`` only the method's own
    stay; a plain ``[published]`` belongs to the recipe's own losses and goes with them.

    Raises ``RecipeError`` where key and losses contradict each other, or ``[methods]`` has a wrong name or value.
    """
    own, settings = table.pop("method", None), table.pop("methods", {})
    _check_settings(settings)
    if own is not None and method is None and "loss" in table:
        raise RecipeError(
            f"method: found {own!r} beside [[loss]] tables, which say what to train with too; leave one out"
        )
    chosen = method if method is not None else own
    if chosen is not None:
        terms = method_losses(str(chosen), table.get("task", "single-label"))
        terms[-1] |= settings.get(chosen, {})
        table["loss"] = terms
    published = table.get("published")
    if not isinstance(published, Mapping) or not published:
        return
    if all(isinstance(one, Mapping) for one in published.values()):
        del table["published"]
        if chosen in published:
            table["published"] = dict(published[chosen])
    elif method not in (None, own):
        del table["published"]


def _check_settings(settings: object) -> None:
    problems = list(_settings_problems(settings))
    if problems:
        head = f"methods: {len(problems)} problems:\n  " if len(problems) > 1 else ""
        raise RecipeError(head + "\n  ".join(problems))


def _settings_problems(settings: object) -> Iterator[str]:
    """Yield what is wrong with ``[methods]``, of the methods that are not chosen too."""
    if not isinstance(settings, Mapping):
        yield f"methods: found {settings!r}; must be tables of methods, as in [methods.dkd]"
        return
    for method, changes in settings.items():
        place = f"methods.{method}"
        if method not in method_names():
            guess = did_you_mean(method, method_names())
            yield f"{place}: unknown method{guess}; allowed: {listed(method_names())}"
        elif not isinstance(changes, Mapping):
            yield f"{place}: found {changes!r}; must be a table"
        else:
            config = method_config(method)
            try:
                config.model_validate({**method_losses(method)[-1], **changes})
            except ValidationError as error:
                yield from validation_messages(error, config, place=place)


__all__ = [
    "apply_method",
    "asked_method",
    "fill_method",
    "label_loss",
    "method_config",
    "method_losses",
    "method_names",
]
