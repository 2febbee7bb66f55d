"""Distillation methods by name: the losses that ``--method`` fills into a recipe, with their published weights."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from kdcam.errors import RecipeError
from kdcam.losses import LOSSES
from kdcam.losses.loss import LossConfig, Task
from kdcam.overrides import apply_override, parse_value
from kdcam.recipe_errors import explain
from kdcam.wording import did_you_mean, listed

_LABELS = {"name": "cross_entropy"}
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


def method_losses(method: str, task: Task = "single-label") -> list[dict[str, Any]]:
    """Return a method's ``[[loss]]`` tables: one on the labels, as the task has them, and the method's own behind it.

    Its own is the loss of that name with its defaults, or a sum. Raises ``RecipeError`` for an unknown name.
    """
    if method not in method_names():
        guess = did_you_mean(method, method_names())
        raise RecipeError(f"method: found {method!r}{guess}; allowed: {listed(method_names())}")
    terms = [dict(term) for term in _OWN_SUMS.get(method, (_LABELS, {"name": method}))]
    if task == "multi-label":
        terms[0]["name"] = "binary_cross_entropy"
    return terms


def method_config(method: str) -> type[LossConfig]:
    """Return the settings that a recipe's ``[methods.METHOD]`` may change: of the method's last loss."""
    return LOSSES[method_losses(method)[-1]["name"]]


def fill_method(table: dict[str, Any], overrides: Sequence[str], method: str | None) -> list[str]:
    """Apply to a recipe's table in place what decides its losses; return the other overrides, which come after them.

    ``method`` counts before an override ``method=NAME``, and this before the recipe's own key. Raises ``RecipeError``
    as `apply_method` and `apply_override` do.
    """
    asked, others = method, list[str]()
    for override in overrides:
        path, _, value = override.partition("=")
        key = path.strip()
        if key == "method":
            asked = str(parse_value(value.strip())) if method is None else method
        elif key.partition(".")[0] in _DECIDING:
            apply_override(table, override)
        else:
            others.append(override)
    apply_method(table, asked)
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
    problems = list(_problems(settings))
    if problems:
        head = f"methods: {len(problems)} problems:\n  " if len(problems) > 1 else ""
        raise RecipeError(head + "\n  ".join(problems))


def _problems(settings: object) -> Iterator[str]:
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
                yield from explain(error, config, place=place)


__all__ = ["apply_method", "fill_method", "method_config", "method_losses", "method_names"]
