"""Is one arm better than another? Paired differences over lesions and seeds. Pure, numpy and scipy.

The unit that is resampled is the lesion, within its class: photographs of one lesion are not independent, and
the folds hold every class in equal shares. Two arms are compared on the same resamples, so what both find
hard cancels. What training with another seed would have changed is a second part of the uncertainty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from skin_gan.ablation.measures import Measure
from skin_gan.ablation.predictions import Predictions
from skin_gan.data.splits import group_labels
from skin_gan.errors import SkinGanError

Array = NDArray[np.floating]
RESAMPLES = 2000
CHUNK = 200  # resamples evaluated at a time: bounds memory
ALPHA, POWER = 0.05, 0.8
WORTHWHILE = 0.02  # smallest gain that would be worth having, in units of the measure


@dataclass(frozen=True)
class Draws:
    """One measure of one arm: on the test images themselves, and on resamples of their lesions."""

    values: Array  # [S,1+B], column 0 on the images themselves; a row per seed
    seeds: tuple[int, ...]
    test: str  # names images and resamples: only equal ones can be paired
    lesions: int

    @property
    def estimate(self) -> float:
        """Mean over seeds."""
        return float(self.values[:, 0].mean())


@dataclass(frozen=True)
class Interval:
    """An estimate with its uncertainty, in the measure's own unit."""

    estimate: float
    low: float
    high: float
    p: float  # two-sided, of the hypothesis that the true value is 0
    se: float
    se_lesions: float  # the part of `se` from having only these lesions
    se_seeds: float | None  # the part from having only these seeds; None with one seed: not known
    mde: float  # true difference that would be found with probability 0.8 at this n
    seeds: int
    lesions: int
    freedom: float = np.inf  # degrees of freedom of `se`: few where seeds disagree


def draws(
    runs: Mapping[int, Predictions], measure: Measure, resamples: int = RESAMPLES, seed: int = 0
) -> Draws:
    """`measure` of an arm's runs, by seed, all on the same images. SkinGanError where they are not."""
    if not runs:
        raise SkinGanError("an arm without a finished run cannot be measured: launch its runs first")
    tests = {run.test for run in runs.values()}
    if len(tests) > 1:
        raise SkinGanError("runs of one arm were tested on different images: some seeds lack a fold")
    first = next(iter(runs.values()))
    index, strata = _lesions(first)
    rng = np.random.default_rng(seed)
    columns = []
    for start in range(0, 1 + resamples, CHUNK):
        weights = resample(strata, min(CHUNK, 1 + resamples - start), rng)
        if start == 0:
            weights[0] = 1
        w = weights[:, index]
        columns.append([measure(run.labels, run.probabilities, w) for run in runs.values()])
    values = np.concatenate(columns, axis=1)
    return Draws(values, tuple(runs), f"{tests.pop()}-{resamples}-{seed}", len(strata))


def _lesions(run: Predictions) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """The lesion 0..L-1 of each image [N], and the class that each lesion is resampled within [L]."""
    names, index = np.unique(run.lesions, return_inverse=True)
    classes = [run.classes[k] for k in run.labels]
    label_of = group_labels(run.lesions.tolist(), classes)
    return index, np.array([run.classes.index(label_of[name]) for name in names.tolist()])


def resample(strata: NDArray[np.integer], n: int, rng: np.random.Generator) -> Array:
    """[n,L] weights of L lesions: of a class's L_k lesions, L_k - 1 are drawn with replacement.

    Weighted by L_k / (L_k - 1), which keeps the variance unbiased in classes of a dozen lesions (Rao & Wu
    1988, doi:10.1080/01621459.1988.10478591). A class of a single lesion keeps it, and shows no uncertainty.
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
    """An arm's own value, a share, with its interval within 0..1. (Its p is of no interest.)"""
    found = _summary(arm.values, arm.lesions, alpha)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


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
    return _summary(difference, arm.lesions, alpha)


def _summary(values: Array, lesions: int, alpha: float) -> Interval:
    """From [S,1+B]: the mean over seeds; its variance from resamples of the lesions and from the seeds."""
    sampled = values[:, 1:][:, np.isfinite(values[:, 1:]).all(0)]
    mean = float(values[:, 0].mean())
    if not np.isfinite(mean) or sampled.shape[1] < 2:
        raise SkinGanError("the measure is not defined on these test images: a class has none of them")
    se_lesions = float(sampled.mean(0).std(ddof=1))
    se_seeds, freedom = seed_error(values[:, 0], sampled, se_lesions)
    se = float(np.hypot(se_lesions, se_seeds or 0.0))
    half = float(t.isf(alpha / 2, freedom)) * se
    p = 2 * float(t.sf(abs(mean) / se, freedom)) if se > 0 else float(mean == 0)
    return Interval(
        estimate=mean,
        low=mean - half,
        high=mean + half,
        p=p,
        se=se,
        se_lesions=se_lesions,
        se_seeds=se_seeds,
        mde=minimum_detectable(se, alpha, freedom=freedom),
        seeds=len(values),
        lesions=lesions,
        freedom=freedom,
    )


def seed_error(estimates: Array, sampled: Array, se_lesions: float) -> tuple[float | None, float]:
    """Standard error of the mean over S seeds from what other seeds would change, and degrees of freedom.

    `estimates` [S], `sampled` [S,B]. Seeds differ on the same images partly because each run errs on other
    images: the resamples know that variance already, so it is taken off. The degrees of freedom are those of
    Welch and Satterthwaite, of the whole variance between seeds: taking off a part does not make the rest
    better known. With one seed: None, and a normal distribution.
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


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm 1979): below alpha only if the chance of any false alarm stays below it."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p, float)[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted.tolist()


def minimum_detectable(
    se: float, alpha: float = ALPHA, chance: float = POWER, freedom: float = np.inf
) -> float:
    """The true difference that a two-sided test at `alpha` finds with probability `chance`."""
    return float((t.isf(alpha / 2, freedom) + t.ppf(chance, freedom)) * se)


def power(effect: float, se: float, alpha: float = ALPHA, freedom: float = np.inf) -> float:
    """Probability 0..1 that a two-sided test at `alpha` finds a true difference `effect`."""
    if se <= 0:
        return float(effect != 0)
    z, bound = effect / se, t.isf(alpha / 2, freedom)
    return float(t.sf(bound - z, freedom) + t.cdf(-bound - z, freedom))


def lesions_needed(effect: float, result: Interval, alpha: float = ALPHA) -> int | None:
    """About how many test lesions would find `effect` with probability 0.8; None: the seeds limit that."""
    room = (effect / minimum_detectable(1.0, alpha)) ** 2 - (result.se_seeds or 0.0) ** 2
    return None if room <= 0 else int(np.ceil(result.lesions * result.se_lesions**2 / room))


@dataclass(frozen=True)
class Verdict:
    """What may be said of an arm against another, and by which numbers."""

    word: Literal["helps", "harms", "no benefit shown", "cannot be resolved"]
    why: str
    p_adjusted: float
    worthwhile: float


def verdict(
    gain: Interval, p_adjusted: float, worthwhile: float = WORTHWHILE, alpha: float = ALPHA
) -> Verdict:
    """The verdict on a gain (positive is better) whose p value has been adjusted for all comparisons.

    helps, harms: the adjusted p value is below `alpha`. no benefit shown: it is not, and the interval
    excludes a gain of `worthwhile`. cannot be resolved: the interval holds 0 and such a gain alike.
    """
    points = f"{100 * gain.estimate:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
    p = f"= {p_adjusted:.3f}" if p_adjusted >= 0.001 else "< 0.001"
    seeds = f"{gain.seeds} seed{'s' if gain.seeds > 1 else ''}"
    tested = f"adjusted p {p}; {gain.lesions} lesions, {seeds}"
    if p_adjusted < alpha:
        return Verdict(
            "helps" if gain.estimate > 0 else "harms", f"{points}, {tested}", p_adjusted, worthwhile
        )
    if gain.high < worthwhile:
        why = f"{points} excludes a gain of {100 * worthwhile:g} points, {tested}"
        return Verdict("no benefit shown", why, p_adjusted, worthwhile)
    needed = lesions_needed(worthwhile, gain, alpha)
    more = f"about {needed} lesions would tell" if needed else "more seeds are needed first"
    why = f"{points} cannot tell 0 from {100 * worthwhile:g} points, {tested}; found with 80%: "
    return Verdict("cannot be resolved", f"{why}{100 * gain.mde:.1f} points; {more}", p_adjusted, worthwhile)
