"""What may be said of an arm against another: correction for many comparisons, power, the verdict. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t

from skin_gan.ablation.stats import ALPHA, FEWEST, Interval, minimum_detectable

WORTHWHILE = 0.02  # smallest gain that would be worth having, in units of the measure


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm 1979): below alpha only if the chance of any false alarm stays below it."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p, float)[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted.tolist()


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
    mde: float  # gain that would be found with probability 0.8, whatever the family's other arms show


def verdict(
    gain: Interval,
    p_adjusted: float,
    comparisons: int = 1,
    worthwhile: float = WORTHWHILE,
    alpha: float = ALPHA,
) -> Verdict:
    """The verdict on a gain (positive is better) whose p value has been adjusted for `comparisons`.

    helps, harms: the adjusted p value is below `alpha`. no benefit shown: it is not, and the (unadjusted)
    interval excludes a gain of `worthwhile`. cannot be resolved: neither, or a class has fewer than `FEWEST`
    lesions, or there is no interval. What could have been found is said for the level of Holm's first step,
    alpha / comparisons; later steps are milder.
    """
    level = alpha / comparisons
    mde = minimum_detectable(gain.se, level, freedom=gain.freedom) if gain.known else np.nan
    points = f"{100 * gain.estimate:+.1f} points"
    tested = f"{gain.lesions} lesions, {gain.seeds} seed{'s' if gain.seeds > 1 else ''}"
    if gain.few:
        classes = ", ".join(f"{c} has {n} test lesion{'s' if n > 1 else ''}" for c, n in gain.few.items())
        why = f"{points}, and {classes}: fewer than {FEWEST} allow no verdict; {tested}"
        return Verdict("cannot be resolved", why, p_adjusted, mde)
    if not gain.known:
        why = f"{points} on every resample, so its uncertainty is not known; {tested}"
        return Verdict("cannot be resolved", why, p_adjusted, mde)
    points += f" [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
    p = f"p {_p(p_adjusted)}" if comparisons == 1 else f"p {_p(p_adjusted)} adjusted for {comparisons}"
    if p_adjusted < alpha:
        word: Literal["helps", "harms"] = "helps" if gain.estimate > 0 else "harms"
        return Verdict(word, f"{points}, {p}; {tested}", p_adjusted, mde)
    if gain.high < worthwhile:
        why = f"{points} excludes a gain of {100 * worthwhile:g} points, {p}; {tested}"
        return Verdict("no benefit shown", why, p_adjusted, mde)
    told = f"cannot tell 0 from {100 * worthwhile:g} points"
    if not gain.low <= 0 <= gain.high:
        told = f"excludes 0, but not after correction for {comparisons} comparisons"
    needed = lesions_needed(worthwhile, gain, level)
    more = f"about {needed} lesions would tell" if needed else "more seeds are needed first"
    why = f"{points} {told}, {p}; {tested}; found with 80%: {100 * mde:.1f} points; {more}"
    return Verdict("cannot be resolved", why, p_adjusted, mde)


def _p(p: float) -> str:
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"
