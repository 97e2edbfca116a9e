"""Compares settings by new trainings on lesions on which nothing was chosen. Pure: NumPy and SciPy.

A search reports the minimum of noisy numbers, which is too good: of 8 equal trials by 1.4 standard deviations
(the winner's curse). A new training of the same settings, measured on other lesions, has no such bias.

Two settings are compared on the same lesions, so that the difficulty of lesions cancels. Their seeds are
independent, and not paired: a seed that two settings share would give their trainings nothing in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from skin_gan.errors import SkinGanError
from skin_gan.metrics.arrays import Array

ALPHA = 0.05


@dataclass(frozen=True)
class Trainings:
    """The S trainings of one setting in one class, each with its own seed, on the same L lesions."""

    values: Array  # [S,L] KID x1000 of a training's images from the photographs of one lesion alone
    weights: Array  # [L] the lesion's share of the photographs; they sum to 1

    @property
    def kids(self) -> Array:
        """KID x1000 of each training [S]: the mean over photographs."""
        return self.values @ self.weights

    @property
    def mean(self) -> float:
        return float(self.kids.mean())

    @property
    def sd(self) -> float:
        """Standard deviation of KID over the seeds."""
        return float(self.kids.std(ddof=1))


@dataclass(frozen=True)
class Difference:
    """The difference of two settings' mean KID x1000, with its interval: below 0 the first is better."""

    estimate: float
    low: float
    high: float
    se_lesions: float  # standard error due to the sample of lesions
    se_seeds: float  # and due to the seeds
    freedom: float  # degrees of freedom of the whole standard error

    @property
    def better(self) -> bool:
        """Whether the interval shows the first setting to be better."""
        return self.high < 0

    @property
    def worse(self) -> bool:
        return self.low > 0


def difference(a: Trainings, b: Trainings, comparisons: int = 1, alpha: float = ALPHA) -> Difference:
    """`a` minus `b` for new seeds and new lesions of the class.

    The intervals of `comparisons` differences hold all true values together with a probability of at least
    1 - `alpha` (Bonferroni), so that the best of them may be picked afterwards. The variance is that of a
    mean over lesions (of unequal weights, linearised: Cochran 1977, eq. 6.9) plus each setting's variance
    between seeds over S; what seeds differ by only on these lesions is in the former already and subtracted
    from the latter. Degrees of freedom by Welch (1947) and Satterthwaite (1946) over all three parts.
    """
    from scipy.stats import t  # slow to import, and every job imports this module

    lesions, seeds = len(a.weights), (len(a.values), len(b.values))
    if not np.array_equal(a.weights, b.weights):
        raise SkinGanError("two settings were measured on different lesions: launch the sweep again")
    if lesions < 2 or min(seeds) < 2:
        raise SkinGanError(
            f"{lesions} lesions and {min(seeds)} seeds: expected at least 2 of each for an interval"
        )
    of_lesion = a.values.mean(0) - b.values.mean(0)
    by_lesions = float(_variance(of_lesion[None], a.weights)[0])
    parts = [_between(x) for x in (a, b)]
    variance = by_lesions + sum(own for own, _ in parts)
    spread = by_lesions**2 / (lesions - 1) + sum(
        whole**2 / (n - 1) for (_, whole), n in zip(parts, seeds, strict=True)
    )
    freedom = max(1.0, variance**2 / spread) if spread > 0 else np.inf
    half = float(t.isf(alpha / 2 / comparisons, freedom)) * variance**0.5
    estimate = a.mean - b.mean
    return Difference(
        estimate, estimate - half, estimate + half, by_lesions**0.5, (variance - by_lesions) ** 0.5, freedom
    )


def _variance(values: Array, weights: Array) -> Array:
    """[N]: the variance of each row's weighted mean over lesions, values [N,L]."""
    lesions = len(weights)
    off = weights * (values - (values @ weights)[:, None])
    return lesions / (lesions - 1) * (off**2).sum(1)  # type: ignore[no-any-return]


def _between(x: Trainings) -> tuple[float, float]:
    """Variance of the mean over S seeds due to the seeds themselves, and with what lesions add to it."""
    seeds = len(x.values)
    whole = float(x.kids.var(ddof=1))
    on_these = float(_variance(x.values - x.values.mean(0), x.weights).mean()) * seeds / (seeds - 1)
    return max(0.0, whole - on_these) / seeds, whole / seeds


def one_setting(means: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean rank over classes of the settings that every class has, the best first.

    `means`: mean KID by class and setting, infinite where a training diverged. Within a class the lowest KID
    has rank 1, and equal ones share their mean rank, so that classes count alike whatever their KID (Friedman
    1937). Of equal mean ranks the setting that comes first in the first class comes first.
    """
    from scipy.stats import rankdata

    of_classes = [*means.values()]
    common = [name for name in of_classes[0] if all(name in of_class for of_class in of_classes)]
    ranks = np.mean([rankdata([of_class[name] for name in common]) for of_class in of_classes], axis=0)
    return dict(sorted(zip(common, map(float, ranks), strict=True), key=lambda pair: pair[1]))


def decide(own: str, one: str, faults: Mapping[str, int], differences: Mapping[str, Difference]) -> str:
    """The setting that a class gets: `own`, its best, or `one`, the setting of all classes.

    A class deviates only where that is shown: where the interval of its difference from `one` lies below 0,
    or where the generator of `one` has more `faults` (reasons for rejection).
    """
    if own == one or faults[own] < faults[one]:
        return own
    return own if own in differences and differences[own].better else one


def best(means: Mapping[str, float], faults: Mapping[str, int]) -> str:
    """The setting with the fewest reasons for rejection, then with the lowest mean KID."""
    return min(means, key=lambda name: (faults[name], means[name]))
