"""Compares arms: paired differences over lesions and seeds. Pure, numpy and scipy.

Lesions are resampled within their class: photographs of one lesion are not independent, and the folds hold
every class in equal shares. Two arms are compared on the same resamples, so that the difficulty of lesions
cancels. The variation between training seeds is a second part of the uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from skin_gan.ablation.power import ALPHA, POWER
from skin_gan.ablation.predictions import Predictions
from skin_gan.data.splits import group_labels
from skin_gan.errors import SkinGanError

Array = NDArray[np.floating]
Runs = Mapping[int, Predictions]  # of one arm, by seed
Measured = Callable[[Predictions, Array], Array]  # of a run under weights [B,N] of its images: [B] or [B,M]
RESAMPLES = 2000
TINY = 1e-12  # a standard error below this is rounding
CHUNK = 200  # resamples evaluated at a time: bounds memory
QUANTILES = (np.arange(2000) + 0.5) / 2000  # of chi squared
# The number of test lesions that a verdict needs in each class. Of 1000 simulated pairs of equal arms (one
# seed; five classes of equal weight, four of 60 to 200 lesions; two levels of recall) p was below 0.05 in 44
# to 52% with 1 lesion in the fifth class, 13 to 14% with 2, 8 to 11% with 3 to 6, 7% with 12 and 5 to 6% with
# 20; with three seeds in 2 to 4% from 2 on. There is no sharp threshold: from 5 on the error rate is at most
# about twice the nominal one.
FEWEST = 5


@dataclass(frozen=True)
class Draws:
    """One measure of one arm, on the test images and on resamples of their lesions."""

    values: Array  # [S,1+B], column 0 on the images themselves; a row per seed
    seeds: tuple[int, ...]
    test: str  # identifies images and resamples: only equal ones can be paired
    sizes: Mapping[str, int]  # lesions of each class
    rests_on: tuple[str, ...]  # classes that the measure weighs one by one; (): all lesions count alike

    @property
    def lesions(self) -> int:
        """The number of lesions behind the measure; for a recall those of its class."""
        return sum(self.sizes[c] for c in self.rests_on or self.sizes)

    @property
    def few(self) -> dict[str, int]:
        """The classes of `rests_on` with too few lesions, and their numbers of lesions."""
        return {c: self.sizes[c] for c in self.rests_on if 0 < self.sizes[c] < FEWEST}


@dataclass(frozen=True)
class Interval:
    """An estimate with its uncertainty, in the measure's own unit.

    If nothing varies (`se` is 0, or a class has one lesion) the uncertainty is unknown: `low`, `high` and
    `mde` are NaN, and `p` is 1.
    """

    estimate: float
    low: float
    high: float
    p: float  # two-sided, of the hypothesis that the true value is 0
    se: float
    se_lesions: float  # the part of `se` due to the sample of lesions
    se_seeds: float | None  # the part due to the seeds; None with one seed: unknown
    mde: float  # minimum detectable effect: true difference that is found with probability 0.8
    seeds: int
    lesions: int
    freedom: float = np.inf  # degrees of freedom of `se`
    few: Mapping[str, int] = field(default_factory=dict)  # classes with too few lesions -> their lesions

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return bool(np.isfinite(self.low))


def test_images(runs: Runs) -> str:
    """The `test` of an arm's runs. SkinGanError if they were tested on different images."""
    if not runs:
        raise SkinGanError("an arm without a finished run cannot be measured: launch its runs first")
    tests = {run.test for run in runs.values()}
    if len(tests) > 1:
        raise SkinGanError("runs of one arm were tested on different images: some seeds lack a fold")
    return tests.pop()


def draws_of(
    arms: Mapping[str, Runs], measured: Measured, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Draws]:
    """`measured` of several arms' runs on the same images and the same resamples of their lesions.

    `rests_on` is set to all classes.
    """
    (test,) = {test_images(runs) for runs in arms.values()}
    first = next(run for runs in arms.values() for run in runs.values())
    index, strata = _lesions(first)
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Array]] = {arm: [] for arm in arms}
    for start in range(0, 1 + resamples, CHUNK):
        weights = resample(strata, min(CHUNK, 1 + resamples - start), rng)
        if start == 0:
            weights[0] = 1
        w = weights.T[index].T  # by columns: measures sort images
        for arm, runs in arms.items():
            columns[arm].append(np.stack([measured(run, w) for run in runs.values()]))
    sizes = {c: int((strata == k).sum()) for k, c in enumerate(first.classes)}
    name = f"{test}-{resamples}-{seed}"
    return {
        arm: Draws(np.concatenate(columns[arm], axis=1), tuple(runs), name, sizes, first.classes)
        for arm, runs in arms.items()
    }


def _lesions(run: Predictions) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The lesion 0..L-1 of each image [N], and the class within which each lesion is resampled [L]."""
    names, index = np.unique(run.lesions, return_inverse=True)
    classes = [run.classes[k] for k in run.labels]
    label_of = group_labels(run.lesions.tolist(), classes)
    return index, np.array([run.classes.index(label_of[name]) for name in names.tolist()])


def resample(strata: NDArray[np.integer], n: int, rng: np.random.Generator) -> Array:
    """[n,L] weights of L lesions: of a class's L_k lesions, L_k - 1 are drawn with replacement.

    Draws are weighted by L_k / (L_k - 1), which keeps the variance unbiased in small classes (Rao & Wu 1988,
    doi:10.1080/01621459.1988.10478591). A single lesion of a class has weight 1: its variance is unknown.
    """
    weights = np.ones((n, len(strata)))
    for k in np.unique(strata):
        rows = np.flatnonzero(strata == k)
        size = len(rows)
        if size > 1:
            drawn = rng.multinomial(size - 1, np.full(size, 1 / size), n)
            weights[:, rows] = drawn * (size / (size - 1))
    return weights


def interval(arm: Draws, alpha: float = ALPHA) -> Interval:
    """An arm's own value, a share, with its interval clipped to 0..1. Its p has no meaning."""
    found = _summary(arm.values, arm, alpha)
    low, high = np.clip([found.low, found.high], 0, 1)
    return replace(found, low=float(low), high=float(high))


def compare(arm: Draws, base: Draws, alpha: float = ALPHA) -> Interval:
    """`arm` minus `base` on the seeds that both have, each seed paired with itself."""
    if arm.test != base.test:
        raise SkinGanError(
            "two arms were not tested on the same images: expected equal store, folds and resamples; "
            "finish the folds that one of them lacks"
        )
    common = [s for s in arm.seeds if s in base.seeds]
    if not common:
        raise SkinGanError(f"no common seed: one arm has seeds {arm.seeds}, the other {base.seeds}")
    rows = [(arm.seeds.index(s), base.seeds.index(s)) for s in common]
    difference = np.stack([arm.values[i] - base.values[j] for i, j in rows])
    return _summary(difference, arm, alpha)


def _summary(values: Array, of: Draws, alpha: float) -> Interval:
    """The mean over seeds of values [S,1+B], with its variance from resampled lesions and from seeds."""
    from scipy.stats import t  # seconds: not for commands that only need this module's constants

    sampled = values[:, 1:][:, np.isfinite(values[:, 1:]).all(0)]
    mean = float(values[:, 0].mean())
    if not np.isfinite(mean) or sampled.shape[1] < 2:
        raise SkinGanError("the measure is not defined on these test images: a class has none of them")
    se_lesions = float(sampled.mean(0).std(ddof=1))
    se_seeds, freedom = seed_error(values[:, 0], sampled, se_lesions)
    se = float(np.hypot(se_lesions, se_seeds or 0.0))
    known = se_lesions > TINY and 1 not in of.few.values()
    half = float(t.isf(alpha / 2, freedom)) * se if known else np.nan
    p = 2 * float(t.sf(abs(mean) / se, freedom)) if known else 1.0
    return Interval(
        estimate=mean,
        low=mean - half,
        high=mean + half,
        p=p,
        se=se,
        se_lesions=se_lesions,
        se_seeds=se_seeds,
        mde=minimum_detectable(se, alpha, freedom=freedom) if known else np.nan,
        seeds=len(values),
        lesions=of.lesions,
        freedom=freedom,
        few=of.few,
    )


def seed_error(estimates: Array, sampled: Array, se_lesions: float) -> tuple[float | None, float]:
    """Standard error of the mean over S seeds due to the seeds, and degrees of freedom of the total error.

    `estimates` [S], `sampled` [S,B]. Seeds differ partly because each run errs on other images; the resamples
    contain that variance already, so it is subtracted. The degrees of freedom follow Welch and Satterthwaite
    for the whole variance between seeds. With one seed: None, and a normal distribution.
    """
    seeds = len(estimates)
    if seeds < 2:
        return None, np.inf
    between = float(estimates.var(ddof=1))
    residual = sampled - sampled.mean(0)
    known = float(residual.var(axis=1, ddof=1).mean()) * seeds / (seeds - 1)
    variance = max(0.0, between - known) / seeds
    spread = (between / seeds) ** 2 / (seeds - 1)
    freedom = (se_lesions**2 + variance) ** 2 / spread if spread > 0 else np.inf
    return float(np.sqrt(variance)), max(freedom, 1.0)


def minimum_detectable(
    se: float, alpha: float = ALPHA, chance: float = POWER, freedom: float = np.inf
) -> float:
    """The true difference that a two-sided test at `alpha` detects with probability `chance`."""
    from scipy.optimize import brentq
    from scipy.stats import t

    if not np.isfinite(se) or se <= 0:
        return float(se)
    high = float(t.isf(alpha / 2, freedom)) + 1.0
    while power(high, 1.0, alpha, freedom) < chance:
        high *= 2
    return se * float(brentq(lambda x: power(x, 1.0, alpha, freedom) - chance, 0.0, high))


def power(effect: float, se: float, alpha: float = ALPHA, freedom: float = np.inf) -> float:
    """Probability 0..1 that a two-sided t test at `alpha` finds a true difference `effect`.

    The estimate over its error is noncentral t: (Z + effect / se) / sqrt(V / freedom), Z normal and V of
    chi squared. Averaged over V at equally likely values, within 1e-4 of scipy.stats.nct, which is NaN for
    many effects that are clearly found (scipy 1.17).
    """
    from scipy.stats import chi2, norm, t

    if se <= 0:
        return float(effect != 0)
    z, bound = effect / se, t.isf(alpha / 2, freedom)
    spread = np.sqrt(chi2.ppf(QUANTILES, freedom) / freedom) if np.isfinite(freedom) else 1.0
    return float(np.mean(norm.sf(bound * spread - z) + norm.cdf(-bound * spread - z)))
