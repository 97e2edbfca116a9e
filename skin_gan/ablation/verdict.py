"""Turns a measured gain into a verdict: learning check, Holm's correction, decision rule. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skin_gan.ablation.power import ALPHA
from skin_gan.ablation.stats import FEWEST, Interval, minimum_detectable
from skin_gan.words import HARMS, HELPS, NOT_JUDGED, RULED_OUT, UNRESOLVED

WORTHWHILE = 0.02  # smallest worthwhile gain, in units of the measure
# A classifier gives verdicts only if it has learnt from real images:
ABOVE_CHANCE = 0.05  # the 95% interval of its balanced accuracy is this far above chance,
FALL = 0.02  # and its training loss has fallen by this share of log K, the loss of a blind guess
Curve = Sequence[tuple[int, float]]  # training loss: (updates made, mean loss since the point before)


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values (Holm 1979), which bound the probability of any false alarm."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.asarray(p, float)[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted.tolist()


def in_sequence(p: Sequence[float]) -> list[float]:
    """Adjusted p values of hypotheses that are tested in an order fixed beforehand (Maurer 1995).

    The i-th is max(p_1, ..., p_i). So each is tested at the full level until the first that is not rejected,
    which bounds the probability of any false alarm by that level, however the tests depend on each other.
    """
    return np.maximum.accumulate(np.asarray(p, float)).tolist()


def loss_fall(curve: Curve, classes: int) -> float:
    """The fall of the loss from the curve's first tenth to its last, as a share of log K.

    NaN for a curve of fewer than two points.
    """
    if len(curve) < 2:
        return float("nan")
    tenth, losses = max(1, len(curve) // 10), [loss for _, loss in curve]
    return float((np.mean(losses[:tenth]) - np.mean(losses[-tenth:])) / np.log(classes))


def not_learnt(plain: Interval, classes: int, curves: Sequence[Curve]) -> str:
    """The reason why a classifier cannot give verdicts; "" if it can.

    `plain`: balanced accuracy of the arm with real images only, for `classes` classes; `curves`: the recorded
    training losses of its runs.
    """
    chance = 1 / classes
    floor = chance + ABOVE_CHANCE
    known = f" [{100 * plain.low:.1f}, {100 * plain.high:.1f}]" if plain.known else ""
    if not (plain.low if plain.known else plain.estimate) > floor:
        return (
            f"the classifier has not learnt: its balanced accuracy on real images only is "
            f"{100 * plain.estimate:.1f}%{known}, where chance is {100 * chance:.1f}% and at least "
            f"{100 * floor:.1f}% is asked for"
        )
    falls = [fall for fall in (loss_fall(curve, classes) for curve in curves) if np.isfinite(fall)]
    if falls and not np.mean(falls) >= FALL:
        return (
            "the classifier has not learnt: from the first tenth of training to the last its loss has fallen "
            f"by {100 * np.mean(falls):.1f}% of that of a blind guess, and at least {100 * FALL:g}% is "
            "asked for"
        )
    return ""


def lesions_needed(effect: float, result: Interval, alpha: float = ALPHA) -> int | None:
    """The approximate number of test lesions that detect `effect` with probability 0.8.

    None if no number does, because the seeds vary too much.
    """
    room = (effect / minimum_detectable(1.0, alpha)) ** 2 - (result.se_seeds or 0.0) ** 2
    return None if room <= 0 else int(np.ceil(result.lesions * result.se_lesions**2 / room))


@dataclass(frozen=True)
class Verdict:
    """The verdict on an arm's gain over another arm, and the numbers behind it."""

    word: str  # one of `skin_gan.words`
    why: str
    p_adjusted: float
    mde: float  # gain that is detected with probability 0.8, whatever the other comparisons show


def verdict(
    gain: Interval,
    p_adjusted: float,
    comparisons: int = 1,
    worthwhile: float = WORTHWHILE,
    alpha: float = ALPHA,
    unlearnt: str = "",
) -> Verdict:
    """The verdict on a gain (positive is better) whose p value has been adjusted for `comparisons`.

    helps, harms: the adjusted p value is below `alpha`. gain ruled out: it is not, and the (unadjusted)
    interval excludes a gain of `worthwhile`. not resolved: neither, or a class has fewer than `FEWEST`
    lesions, or there is no interval. not judged: the classifier is `unlearnt`, see `not_learnt`. The minimum
    detectable effect is for Holm's first and strictest step, alpha / comparisons.
    """
    level = alpha / comparisons
    mde = minimum_detectable(gain.se, level, freedom=gain.freedom) if gain.known else np.nan
    points = f"{100 * gain.estimate:+.1f} points"
    tested = f"{gain.lesions} lesions, {gain.seeds} seed{'s' if gain.seeds > 1 else ''}"
    if unlearnt:
        return Verdict(NOT_JUDGED, f"{unlearnt}; by number {points}; {tested}", p_adjusted, mde)
    if gain.few:
        classes = ", ".join(f"{c} has {n} test lesion{'s' if n > 1 else ''}" for c, n in gain.few.items())
        why = f"{points}, and {classes}: fewer than {FEWEST} allow no verdict; {tested}"
        return Verdict(UNRESOLVED, why, p_adjusted, mde)
    if not gain.known:
        why = f"{points} on every resample, so its uncertainty is not known; {tested}"
        return Verdict(UNRESOLVED, why, p_adjusted, mde)
    points += f" [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
    p = f"p {_p(p_adjusted)}" if comparisons == 1 else f"p {_p(p_adjusted)} adjusted for {comparisons}"
    if p_adjusted < alpha:
        word = HELPS if gain.estimate > 0 else HARMS
        return Verdict(word, f"{points}, {p}; {tested}", p_adjusted, mde)
    if gain.high < worthwhile:
        why = f"{points} excludes a gain of {100 * worthwhile:g} points, {p}; {tested}"
        return Verdict(RULED_OUT, why, p_adjusted, mde)
    finding = f"cannot tell 0 from {100 * worthwhile:g} points"
    if not gain.low <= 0 <= gain.high:
        finding = "excludes 0, but endpoints before it found nothing"
        if comparisons > 1:
            finding = f"excludes 0, but not after correction for {comparisons} comparisons"
    needed = lesions_needed(worthwhile, gain, level)
    more = f"about {needed} lesions would tell" if needed else "more seeds are needed first"
    why = f"{points} {finding}, {p}; {tested}; found with 80%: {100 * mde:.1f} points; {more}"
    return Verdict(UNRESOLVED, why, p_adjusted, mde)


def _p(p: float) -> str:
    return f"= {p:.3f}" if p >= 0.001 else "< 0.001"
