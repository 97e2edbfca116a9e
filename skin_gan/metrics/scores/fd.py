"""Frechet distance (Heusel 2017, arXiv:1706.08500): FID where the features are those of InceptionV3."""

from __future__ import annotations

import numpy as np

from skin_gan.metrics.arrays import Array, Row, finite
from skin_gan.metrics.comparison import Comparison

SCORES = {
    "fd": ("lower", "Frechet distance to validation images"),
    "fd_floor": ("", "the same of real images, at equal n"),
}


def score(c: Comparison) -> Row:
    return c.at_equal_n("fd", lambda s: {"fd": fd(s.fake, s.real)})


def fd(fake: Array, real: Array) -> float | None:
    """Frechet distance of the two sets' Gaussians (Heusel 2017, arXiv:1706.08500, eq. 6).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). It falls with n: compare only values at the same n on both
    sides. None below two images a side.
    """
    if min(len(fake), len(real)) < 2:
        return None
    means = fake.mean(0, dtype=np.float64), real.mean(0, dtype=np.float64)
    a, b = ((x - m) / np.sqrt(len(x) - 1) for x, m in zip((fake, real), means, strict=True))
    # C = a.T @ a, so the trace of the root is the sum of singular values of a @ b.T: no d x d root needed
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return finite(((means[0] - means[1]) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * cross)
