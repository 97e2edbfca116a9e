"""Precision and recall (Kynkaanniemi 2019), density and coverage (Naeem 2020, arXiv:2002.09797)."""

from __future__ import annotations

import numpy as np

from skin_gan.metrics.arrays import Array, Row, distances
from skin_gan.metrics.comparison import Comparison, neighbours

SCORES = {
    "precision": ("higher", "share of generated images within the reach of real ones"),
    "precision_floor": ("", "the same of real images, at equal n"),
    "recall": ("higher", "share of real images within the reach of generated ones"),
    "recall_floor": ("", "the same of real images, at equal n"),
    "density": ("higher", "how many real images reach a generated one, over k"),
    "density_floor": ("", "the same of real images, at equal n"),
    "coverage": ("higher", "share of real images that have a generated one in reach"),
    "coverage_floor": ("", "the same of real images, at equal n"),
}


def score(c: Comparison) -> Row:
    return c.at_equal_n("prdc", lambda s: prdc(s.fake, s.real, neighbours(min(len(s.fake), len(s.real)))))


def prdc(fake: Array, real: Array, k: int = 5) -> dict[str, float | None]:
    """Precision, recall (Kynkaanniemi 2019), density and coverage (Naeem 2020, arXiv:2002.09797) in 0..1.

    Density may exceed 1. Balls reach to the k-th nearest other image of the same set; None if there is none.
    Noise raises precision and density: never read them alone.
    """
    if min(len(fake), len(real)) <= k:
        return dict.fromkeys(("precision", "recall", "density", "coverage"))
    between = distances(real, fake)
    in_real = between < _radii(real, k)[:, None]
    in_fake = between < _radii(fake, k)[None, :]
    return {
        "precision": float(in_real.any(0).mean()),
        "recall": float(in_fake.any(1).mean()),
        "density": float(in_real.sum(0).mean() / k),
        "coverage": float(in_real.any(1).mean()),
    }


def _radii(x: Array, k: int) -> Array:
    """[N]: distance of each image to its k-th nearest other one."""
    d = distances(x, x)
    np.fill_diagonal(d, 0)
    return np.partition(d, k, axis=1)[:, k]
