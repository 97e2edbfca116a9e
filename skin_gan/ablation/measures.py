"""How good predictions are, under many weightings of the images at once. Pure, numpy only.

Throughout: `y` int [N] true classes 0..K-1; `p` float [N,K] probabilities; `w` float [B,N] weights of the
images, at least 0, one row per weighting: ones, or how often a bootstrap resample holds each image. The
result is float [B] in 0..1, NaN where a weighting leaves it undefined. scikit-learn has most of them for one
weighting at a time, which is too slow for thousands; the tests compare with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Labels = NDArray[np.integer]
Measure = Callable[[Labels, Array, Array], Array]

LOWER_IS_BETTER = frozenset({"ece"})
SPECIFICITY = 0.9  # at which melanoma sensitivity is read off
BINS = 15  # of the calibration error


def accuracy(y: Labels, p: Array, w: Array) -> Array:
    """Share of images whose most probable class is the true one."""
    return _ratio(w @ (p.argmax(1) == y).astype(w.dtype), w.sum(1))


def recalls(y: Labels, p: Array, w: Array) -> Array:
    """[B,K]: share of each class's images that are found; NaN for a class without images."""
    member = np.eye(p.shape[1], dtype=w.dtype)[y]
    hit = (p.argmax(1) == y)[:, None]
    return _ratio(w @ (member * hit), w @ member)


def recall(y: Labels, p: Array, w: Array, label: int) -> Array:
    """`recalls` of one class."""
    return recalls(y, p, w)[:, label]


def balanced_accuracy(y: Labels, p: Array, w: Array) -> Array:
    """Mean recall over the classes that have images: ISIC 2018's metric."""
    return _mean_of_defined(recalls(y, p, w))


def macro_auc(y: Labels, p: Array, w: Array) -> Array:
    """Mean over classes of the area under the ROC curve of that class against the rest."""
    return _mean_of_defined(np.stack([auc(y == k, p[:, k], w) for k in range(p.shape[1])], 1))


def auc(positive: NDArray[np.bool_], score: Array, w: Array) -> Array:
    """Probability that a positive image scores above a negative one; ties count half."""
    above, below = _by_score(positive, score, w)
    lower = np.cumsum(below, 1) - below / 2
    return _ratio((above * lower).sum(1), above.sum(1) * below.sum(1))


def sensitivity_at(y: Labels, p: Array, w: Array, label: int, specificity: float = SPECIFICITY) -> Array:
    """Largest share of a class's images found by a threshold that clears `specificity` of the others."""
    positive, negative = _by_score(y == label, p[:, label], w)
    found = _ratio(np.cumsum(positive[:, ::-1], 1), positive.sum(1)[:, None])
    alarms = _ratio(np.cumsum(negative[:, ::-1], 1), negative.sum(1)[:, None])
    best = np.where(alarms <= 1 - specificity + 1e-9, found, 0.0).max(1)
    return np.where(np.isnan(found[:, 0]) | np.isnan(alarms[:, 0]), np.nan, best)


def ece(y: Labels, p: Array, w: Array) -> Array:
    """Expected calibration error (Guo 2017, arXiv:1706.04599, eq. 5): 15 bins of equal width, of the largest
    probability."""
    confidence = p.max(1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gap = ((p.argmax(1) == y) - confidence)[:, None] * np.eye(BINS)[bins]
    return _ratio(np.abs(w @ gap.astype(w.dtype)).sum(1), w.sum(1))


def measures(classes: Sequence[str]) -> dict[str, Measure]:
    """All measures for these classes by name, the headline first."""
    found: dict[str, Measure] = {
        "balanced_accuracy": balanced_accuracy,
        "accuracy": accuracy,
        "macro_auc": macro_auc,
        "ece": ece,
    }
    if "mel" in classes:
        found["mel_sensitivity"] = partial(sensitivity_at, label=list(classes).index("mel"))
    return found | {f"recall_{c}": partial(recall, label=k) for k, c in enumerate(classes)}


def _by_score(positive: NDArray[np.bool_], score: Array, w: Array) -> tuple[Array, Array]:
    """Weight of positive and of negative images at each different score, ascending: [B,scores] each."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.nan) != 0)
    sides = (np.where(side[order], w[:, order], 0) for side in (positive, ~positive))
    above, below = (np.add.reduceat(side, starts, axis=1) for side in sides)
    return above, below


def _ratio(part: Array, whole: Array) -> Array:
    whole = np.broadcast_to(whole, part.shape)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean_of_defined(x: Array) -> Array:
    """[B,K] -> [B]: mean of the values that are not NaN."""
    defined = ~np.isnan(x)
    return _ratio(np.where(defined, x, 0).sum(1), defined.sum(1).astype(float))
