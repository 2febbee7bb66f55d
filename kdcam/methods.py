"""Distillation methods by name: the losses that ``--method`` fills into a recipe, with their published weights."""

from collections.abc import Mapping
from typing import Any

from kdcam.errors import RecipeError
from kdcam.losses import LOSSES
from kdcam.wording import did_you_mean, listed

_LABELS = {"name": "cross_entropy"}
_OWN_SUMS: dict[str, tuple[dict[str, Any], ...]] = {
    # HobbitLong/RepDistiller, README: -r 0.1 -a 0.9, temperature 4
    "kd": ({**_LABELS, "weight": 0.1}, {"name": "kd", "weight": 0.9, "temperature": 4.0}),
    # sunshangquan/logit-standardization-KD: temperature 2, weight 9 (3 to 18 for some pairs)
    "kd_standardized": (
        {**_LABELS, "weight": 0.1},
        {"name": "kd", "weight": 9.0, "temperature": 2.0, "standardize": True},
    ),
    # kdcam's choice, as in its quickstart
    "kd_caam_cam": (
        {**_LABELS, "weight": 0.1},
        {"name": "kd", "weight": 0.9, "temperature": 4.0},
        {"name": "caam_cam"},
    ),
}


def method_names() -> list[str]:
    """Return the methods, sorted: each loss that reads a teacher, and sums of several."""
    return sorted({*_OWN_SUMS, *(name for name, kind in LOSSES.items() if kind.reads_teacher())})


def method_losses(method: str) -> list[dict[str, Any]]:
    """Return a method's ``[[loss]]`` tables: cross_entropy and the loss with its defaults, or the method's own sum.

    Raises ``RecipeError`` for an unknown name.
    """
    if method in _OWN_SUMS:
        return [dict(term) for term in _OWN_SUMS[method]]
    if method not in LOSSES or not LOSSES[method].reads_teacher():
        guess = did_you_mean(method, method_names())
        raise RecipeError(f"method: found {method!r}{guess}; allowed: {listed(method_names())}")
    return [dict(_LABELS), {"name": method}]


def apply_method(table: dict[str, Any], method: str | None) -> None:
    """Fill a recipe's table in place: the losses of a method, and of ``[published.METHOD]`` the method's number.

    ``method`` counts before the recipe's own key ``method``, and takes the place of its ``[[loss]]`` tables; the key
    itself needs a recipe without them. Raises ``RecipeError`` where the two contradict each other.
    """
    own = table.pop("method", None)
    if own is not None and method is None and "loss" in table:
        raise RecipeError(
            f"method: found {own!r} beside [[loss]] tables, which say what to train with too; leave one out"
        )
    chosen = method if method is not None else own
    if chosen is not None:
        table["loss"] = method_losses(str(chosen))
    published = table.get("published")
    if (
        isinstance(published, Mapping)
        and published
        and all(isinstance(one, Mapping) for one in published.values())
    ):
        del table["published"]
        if chosen in published:
            table["published"] = dict(published[chosen])


__all__ = ["apply_method", "method_losses", "method_names"]
