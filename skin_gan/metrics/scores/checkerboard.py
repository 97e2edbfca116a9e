"""Checkerboard artefacts of an architecture, found in the spectrum of a set of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skin_gan.metrics.arrays import Array, Row
from skin_gan.metrics.comparison import Comparison
from skin_gan.pixels import in_pieces

SCORES = {
    "checkerboard": ("lower", "how far patterns of period 2 and 4 pixels stand out of the spectrum"),
    "checkerboard_floor": ("", "the same of real images"),
    "checkerboard_low": ("", "lower end of the 95% interval of as many other real images"),
    "checkerboard_high": ("", "upper end of the 95% interval of as many other real images"),
}
Interval = tuple[float, float]
MIN_SIZE = 16  # pixels: below this the frequencies that are compared run into one another
MIN_LESIONS = 3  # fewer say nothing of how much lesions differ
DRAWS = 1000


def score(c: Comparison) -> Row:
    train, val, n = c.ref.train, c.ref.val, len(c.images)

    def real() -> Row:
        spectra = np.concatenate([spectra_of(train.images), spectra_of(val.images)])
        low, high = interval(spectra, np.concatenate([train.lesions, val.lesions]), n) or (None, None)
        return {"checkerboard_low": low, "checkerboard_high": high}

    return {
        "checkerboard": checkerboard(c.images),
        **c.kept("checkerboard", lambda: {"checkerboard_floor": checkerboard(train.images, val.images)}),
        **c.kept(f"checkerboard-{n}", real),
    }


def against_real(row: Mapping[str, Any]) -> str:
    """Where an evaluation's value lies, such as "0.31, below the interval of real images, 0.9 to 1.1".

    "" where it or the interval is not defined, or an earlier version evaluated.
    """
    value, low, high = (row.get(f"checkerboard{end}") for end in ("", "_low", "_high"))
    if value is None or low is None or high is None:
        return ""
    where = "below" if value < low else "above" if value > high else "inside"
    return f"{value:.2f}, {where} the interval of real images, {low:.2f} to {high:.2f}"


def checkerboard(*sets: NDArray[np.uint8]) -> float | None:
    """How far patterns of period 2 and 4 pixels stand out of the spectrum; sets uint8 [N,3,S,S] -> ratio > 0.

    Upsampling with uneven overlap makes such patterns (Odena 2016, doi:10.23915/distill.00003). The result is
    the largest of four ratios, along rows and columns, of the power at a period to that at the frequencies
    beside it. Compare it with that of real images, whose spectrum falls steeply too. None for images without
    contrast or smaller than 16 pixels.
    """
    if min(sets[0].shape[2:]) < MIN_SIZE:
        return None
    power = np.sum([spectra_of(images).sum(0) for images in sets], axis=0)
    value = float(_largest_ratio(power))
    return value if np.isfinite(value) else None


def interval(spectra: Array, lesions: NDArray[np.str_], n: int, level: float = 0.95) -> Interval | None:
    """The ends between which the value of `n` images of other lesions of the class lies, with 95%.

    `spectra` [M,2,F] and `lesions` [M] are of real images. A draw is of n images of lesions that are drawn
    before, both with replacement: the first covers that these lesions are a sample of the class, without
    which the interval of a class of 60 images would be too narrow for 256 generated ones, and the second how
    much n images vary. In simulated classes (20 to 400 lesions of two images, 40 to 256 other images, 300
    trials each) 89 to 94% of the values lay inside. None below three lesions, or for images without contrast
    or too small.
    """
    groups, index = np.unique(lesions, return_inverse=True)
    if len(groups) < MIN_LESIONS or 2 * (spectra.shape[2] - 1) < MIN_SIZE:
        return None
    rng, even = np.random.default_rng(0), np.full(len(groups), 1 / len(groups))
    drawn = rng.multinomial(len(groups), even, DRAWS)[:, index]  # [DRAWS,M] how often each image's lesion is
    times = np.stack([rng.multinomial(n, some / some.sum()) for some in drawn])
    values, of_lesions, found = (
        _largest_ratio(np.tensordot(weights.astype(np.float64), spectra, 1))
        for weights in (times, drawn, np.ones((1, len(spectra))))
    )
    if not all(np.isfinite(x).all() and (x > 0).all() for x in (values, of_lesions, found)):
        return None
    # The largest of several ratios is biased upwards in few lesions: once in the real images, which the first
    # draw repeats, and once in that draw.
    bias = np.log(of_lesions).mean() - np.log(found[0])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) * np.exp(-2 * bias)
    return float(low), float(high)


def spectra_of(images: NDArray[np.uint8]) -> Array:
    """Power of images [N,3,S,S] at each frequency 0..1/2 along columns and along rows: [N,2,S/2+1]."""
    return in_pieces(_spectra, images)


def _spectra(images: NDArray[np.uint8]) -> Array:
    grey = images.astype(np.float32).mean(1)
    grey -= grey.mean((1, 2), keepdims=True)
    return np.stack([_power(grey, axis) for axis in (1, 2)], axis=1)


def _power(grey: NDArray[np.float32], axis: int) -> Array:
    """Power [N,F] of [N,H,W] at each frequency 0..1/2 along one axis, summed over the other."""
    n = grey.shape[axis]
    # Without a window the step between opposite borders would spread over all frequencies.
    window = np.hanning(n).astype(np.float32)
    window = window[:, None] if axis == 1 else window[None, :]
    power = np.abs(np.fft.rfft(grey * window, axis=axis)) ** 2
    return power.sum(axis=3 - axis, dtype=np.float64)


def _largest_ratio(power: Array) -> Array:
    """[...]: of power [...,2,F] that at periods 2 and 4 over that beside it, at most; NaN without contrast.

    Beside it is two and three frequencies away: the window blurs over one.
    """
    half = power.shape[-1] - 1
    quarter = half // 2
    beside = power[..., half - 2] * power[..., half - 3], power[..., quarter - 2] * power[..., quarter + 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.stack([power[..., k] / np.sqrt(b) for k, b in zip((half, quarter), beside, strict=True)])
    return ratios.max(axis=(0, -1))
