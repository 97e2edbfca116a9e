"""Balance plans: the number of images to add to each class. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from skin_gan.ablation.arm import Arm
from skin_gan.errors import SkinGanError

EQUALISE = "equalise"
LOWEST, HIGHEST = 0.25, 10.0  # ratios of added to real images
Plan = str | float | Mapping[str, int]


def images_to_add(counts: Mapping[str, int], plan: Plan) -> dict[str, int]:
    """Images to add per class, given the number of real training images per class.

    "equalise" fills every class up to the largest; a ratio 0.25..10 adds that many per real image; a mapping
    gives counts for some classes and 0 for the others. SkinGanError for anything else.
    """
    if isinstance(plan, Mapping):
        return _counted(counts, plan)
    if plan == EQUALISE:
        largest = max(counts.values())
        return {label: largest - n for label, n in counts.items()}
    ratio = _ratio(plan)
    return {label: round(ratio * n) for label, n in counts.items()}


def wanted(arm: Arm, counts: Mapping[str, int]) -> dict[str, int]:
    """The images that the arm adds to each class, as `images_to_add`."""
    add = images_to_add(counts, arm.balance)
    median = statistics.median(counts.values())
    return {label: n if not arm.minority or counts[label] < median else 0 for label, n in add.items()}


def _counted(counts: Mapping[str, int], plan: Mapping[str, int]) -> dict[str, int]:
    unknown = sorted(str(label) for label in set(plan) - set(counts))
    if unknown:
        raise SkinGanError(f"balance names {', '.join(unknown)}: the classes are {', '.join(counts)}")
    bad = {k: n for k, n in plan.items() if not isinstance(n, int) or isinstance(n, bool) or n < 0}
    if bad:
        raise SkinGanError(f"balance={bad}: expected a whole number of images, at least 0, for each class")
    return {label: plan.get(label, 0) for label in counts}


def _ratio(plan: str | float) -> float:
    try:
        ratio = math.nan if isinstance(plan, bool) else float(plan)
    except (TypeError, ValueError):  # null, a list
        ratio = math.nan
    if not LOWEST <= ratio <= HIGHEST:
        raise SkinGanError(
            f"balance={plan}: expected {EQUALISE}, a ratio from {LOWEST:g} to {HIGHEST:g}, or a count "
            "per class"
        )
    return ratio
