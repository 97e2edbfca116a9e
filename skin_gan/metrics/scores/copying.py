"""Shares of generated images that copy training images or one another; see `skin_gan.metrics.copies`."""

from __future__ import annotations

import numpy as np

from skin_gan.metrics import copies
from skin_gan.metrics.arrays import Row, distances
from skin_gan.metrics.comparison import Comparison

SCORES = {
    "copies": ("lower", "share of generated images judged copies of training images"),
    "duplicates": ("lower", "share of generated images nearer to another one than held-out ones to training"),
}


def score(c: Comparison) -> Row:
    between = distances(c.features, c.features)
    np.fill_diagonal(between, np.inf)
    found = c.ref.training.distances(c.features, c.images)
    return {
        "copies": float(copies.judge(found, c.ref.thresholds).mean()),
        "duplicates": float((between.min(1) < c.ref.thresholds.feature).mean()),
    }
