"""Vendi score (Friedman & Dieng 2023, arXiv:2210.02410): the effective number of different images."""

from __future__ import annotations

import numpy as np

from skin_gan.metrics.arrays import Array, Row, distances
from skin_gan.metrics.comparison import Comparison

SCORES = {
    "vendi": ("higher", "effective number of different images"),
    "vendi_floor": ("", "the same of real images, at equal n"),
    "collapse": ("lower", "0 (as many different images as real) .. 1 (all one): 1 - vendi / vendi_floor"),
}


def score(c: Comparison) -> Row:
    row = c.at_equal_n("vendi", lambda s: {"vendi": vendi(s.fake, c.ref.scale)})
    got, real = row["vendi"], row["vendi_floor"]
    return {**row, "collapse": None if got is None or not real else max(0.0, 1 - got / real)}


def vendi(x: Array, scale: float) -> float | None:
    """Effective number of different images, 1..N; None for fewer than two images.

    It is exp of the entropy of the eigenvalues of K / N, with k = exp(-|x - y|^2 / (2 scale^2)). N images of
    m modes give about m. It depends on N and `scale`: compare values at equal N and scale.
    """
    if len(x) < 2 or scale <= 0:
        return None
    values = np.linalg.eigvalsh(np.exp(-0.5 * (distances(x, x) / scale) ** 2) / len(x))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))
