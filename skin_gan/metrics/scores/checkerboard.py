"""Checkerboard artefacts of an architecture, found in the spectrum of a set of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skin_gan.metrics.arrays import Row
from skin_gan.metrics.comparison import Comparison
from skin_gan.pixels import pieces

SCORES = {
    "checkerboard": ("lower", "how far patterns of period 2 and 4 pixels stand out of the spectrum"),
    "checkerboard_floor": ("", "the same of real images"),
}
MIN_SIZE = 16  # pixels: below this the frequencies that are compared run into one another


def score(c: Comparison) -> Row:
    real = c.ref.train.images, c.ref.val.images
    return {
        "checkerboard": checkerboard(c.images),
        **c.kept("checkerboard", lambda: {"checkerboard_floor": checkerboard(*real)}),
    }


def checkerboard(*sets: NDArray[np.uint8]) -> float | None:
    """How far patterns of period 2 and 4 pixels stand out of the spectrum; sets uint8 [N,3,H,W] -> ratio > 0.

    Upsampling with uneven overlap makes such patterns (Odena 2016, doi:10.23915/distill.00003). The result is
    the largest of four ratios, along rows and columns, of the power at a period to that at the frequencies
    beside it. Compare it with that of real images, whose spectrum falls steeply too. None for images without
    contrast or smaller than 16 pixels.
    """
    if min(sets[0].shape[2:]) < MIN_SIZE:
        return None
    powers = [_powers(images[piece]) for images in sets for piece in pieces(images)]
    means = (np.sum(along, axis=0) / sum(map(len, sets)) for along in zip(*powers, strict=True))
    ratios = [r for power in means for r in _ratios(power)]
    return max(ratios) if np.isfinite(ratios).all() else None


def _powers(images: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
    """Power of images [N,3,H,W] at each frequency 0..1/2, along columns and along rows."""
    grey = images.astype(np.float32).mean(1)
    grey -= grey.mean((1, 2), keepdims=True)
    return [_power(grey, axis) for axis in (1, 2)]


def _power(grey: NDArray[np.float32], axis: int) -> NDArray[np.floating]:
    """Power at each frequency 0..1/2 along one axis of [N,H,W], summed over images and the other axis."""
    n = grey.shape[axis]
    # Without a window the step between opposite borders would spread over all frequencies.
    window = np.hanning(n).astype(np.float32)
    window = window[:, None] if axis == 1 else window[None, :]
    power = np.abs(np.fft.rfft(grey * window, axis=axis)) ** 2
    return power.sum(axis=(0, 3 - axis), dtype=np.float64)


def _ratios(power: NDArray[np.floating]) -> list[float]:
    """Power at periods 2 and 4 over that two and three frequencies away (the window blurs over one)."""
    half = len(power) - 1
    quarter = half // 2
    if power.max() <= 0 or min(power[half - 3], power[quarter - 2], power[quarter + 2]) <= 0:
        return [np.nan]
    beside = np.sqrt(power[quarter - 2] * power[quarter + 2])
    return [float(power[half] / np.sqrt(power[half - 2] * power[half - 3])), float(power[quarter] / beside)]
