"""Arrays of features, their groups and distances, for scores and copy checks. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Groups = NDArray[np.str_] | NDArray[np.integer] | None  # of each image: the lesion it shows, or None
Row = dict[str, float | None]
# Squared distances of float32 features below this part of their squared lengths are rounding: those of equal
# images differ by about 1e-6 from batch to batch, and scores of a class of equal images would measure that.
ROUNDING = 1e-10


def distances(x: Array, y: Array) -> Array:
    """Euclidean distances [N,M] between x [N,d] and y [M,d]; 0 where only rounding is between them."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    size = (x**2).sum(1)[:, None] + (y**2).sum(1)[None]
    squared = size - 2 * x @ y.T
    return np.sqrt(np.where(squared > ROUNDING * size, squared, 0))


def group_index(groups: Groups, n: int) -> tuple[NDArray[np.integer], int]:
    """The group 0..G-1 of each of n images, and G. Without groups every image is a group."""
    if groups is None:
        return np.arange(n), n
    names, index = np.unique(groups, return_inverse=True)
    return index, len(names)


def finite(value: float | None) -> float | None:
    """The value, or None for NaN and infinity."""
    return float(value) if value is not None and np.isfinite(value) else None


def mean_rows(rows: Sequence[Row]) -> Row:
    """The mean of each key over the rows in which it is not None; None if there is no such row."""
    values = {key: [v for r in rows if (v := r.get(key)) is not None] for key in rows[0]}
    return {key: float(np.mean(v)) if v else None for key, v in values.items()}
