"""What 95 % intervals mean where a report holds many differences: a paragraph for its head."""

import math
import statistics
from collections.abc import Mapping, Sequence

LEVEL = 0.05


def p_value(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of Student's test that the mean of three differences is 0.

    Of two degrees of freedom the distribution has a closed form: P(|t| > x) = 1 - x / sqrt(2 + x^2).
    """
    if len(differences) != 3:
        raise ValueError(f"found {len(differences)} differences; wanted 3, one a seed")
    mean, error = statistics.mean(differences), statistics.stdev(differences) / math.sqrt(3)
    if error == 0:
        return 0.0 if mean else 1.0
    t = abs(mean) / error
    return 1 - t / math.sqrt(2 + t * t)


def left_by_holm(p_values: Mapping[str, float]) -> list[str]:
    """Return the names whose difference from 0 stands after Holm's correction for all of them (Holm 1979)."""
    left: list[str] = []
    for rank, (name, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if value > LEVEL / (len(p_values) - rank):
            break
        left.append(name)
    return left


def remark(differences: Mapping[str, Sequence[float]]) -> str:
    """Return how many differences there are, and how many would seem to be none by chance.

    ``differences``: of each comparison by its name, one a seed.
    """
    found = {name: p_value(each) for name, each in differences.items()}
    apart, left = sum(value < LEVEL for value in found.values()), left_by_holm(found)
    rest = f"{len(left)} of them: {'; '.join(left)}" if left else "none of them"
    return (
        f"Many comparisons: the tables hold {len(found)} differences, each of three seeds. Student's 95 % interval of "
        f"the mean leaves out 0 in {apart} of them; of as many differences that are truly 0 it would in "
        f"{LEVEL * len(found):.1f} on average. Holm's correction for all {len(found)} (at 5 %) leaves {rest}. What is "
        "called a gain or a loss here is the sign in all seeds, not a proven effect."
    )


__all__ = ["left_by_holm", "p_value", "remark"]
