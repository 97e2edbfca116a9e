"""Measures of predictions under many weightings of the images at once. Pure, numpy only.

In all functions `y` is int [N], the true classes 0..K-1; `p` is float [N,K], probabilities; `w` is float
[B,N], weights of the images (at least 0), one row per weighting: ones, or the counts of a bootstrap resample.
The result is float [B] in 0..1, NaN where it is undefined. scikit-learn computes most measures for one
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
MELANOMA, SENSITIVITY, REALISED = "mel", "mel_sensitivity", "mel_specificity"
SPECIFICITY = 0.9  # on validation images, which fixes the threshold of the two measures above
BINS = 15  # of the calibration error
SMALLEST = 1e-6  # probability in the log loss: a certain error costs 13.8, whatever the float's precision


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
    return share(p.argmax(1) == label, y == label, w)


def balanced_accuracy(y: Labels, p: Array, w: Array) -> Array:
    """Mean recall over the classes that have images: ISIC 2018's metric."""
    return _mean_of_defined(recalls(y, p, w))


def balanced_log_loss(y: Labels, p: Array, w: Array) -> Array:
    """Mean over the classes that have images of the mean -log p of the true class, in nats; at least 0."""
    member = np.eye(p.shape[1], dtype=w.dtype)[y]
    loss = -np.log(np.maximum(p[np.arange(len(y)), y], SMALLEST))[:, None]
    return _mean_of_defined(_ratio(w @ (member * loss), w @ member))


def macro_auc(y: Labels, p: Array, w: Array, folds: Labels | None = None) -> Array:
    """Mean over classes of the area under the ROC curve of that class against the rest.

    `folds` [N]: whose classifier scored each image. Scores of two classifiers have no common scale, so images
    are ranked within their fold, and a class's areas are averaged over the folds that have it (Forman &
    Scholz 2010, doi:10.1145/1882471.1882479).
    """
    if folds is None:
        folds = np.zeros(len(y), int)
    parts = [np.flatnonzero(folds == f) for f in np.unique(folds)]
    weights = [w.T[rows].T for rows in parts]  # by columns, as `auc` likes it
    of_classes = [
        _mean_of_defined(
            np.stack([auc(y[r] == k, p[r, k], v) for r, v in zip(parts, weights, strict=True)], 1)
        )
        for k in range(p.shape[1])
    ]
    return _mean_of_defined(np.stack(of_classes, 1))


def auc(positive: NDArray[np.bool_], score: Array, w: Array) -> Array:
    """Probability that a positive image scores above a negative one; ties count half."""
    negative = np.flatnonzero(~positive)
    negative = negative[np.argsort(score[negative], kind="stable")]
    columns = w.T  # [N,B]: rows are contiguous if `w` is by columns, as `stats` makes it
    below = np.zeros((len(negative) + 1, len(w)))  # weight of the n lowest negative images
    np.cumsum(columns[negative], axis=0, out=below[1:])
    above, ranked = columns[positive], score[negative]
    least, most = (np.searchsorted(ranked, score[positive], side) for side in ("left", "right"))
    beaten = (below[least] + below[most]) / 2
    return _ratio((above * beaten).sum(0), above.sum(0) * below[-1])


def cutoff(y: Labels, p: Array, label: int, specificity: float = SPECIFICITY) -> float:
    """The lowest threshold 0..1 with at least a share `specificity` of other classes' images at or below it.

    It is computed on validation images; images with a probability above it are classified as `label`. NaN if
    there are no images of other classes.
    """
    others = np.sort(p[y != label, label])
    alarms = int((1 - specificity) * len(others) + 1e-9)
    return float(others[-1 - alarms]) if len(others) else float("nan")


def share(chosen: NDArray[np.bool_], among: NDArray[np.bool_], w: Array) -> Array:
    """Share of the images `among` [N] that are `chosen` [N]."""
    return _ratio(w @ (chosen & among).astype(w.dtype), w @ among.astype(w.dtype))


def ece(y: Labels, p: Array, w: Array) -> Array:
    """Expected calibration error (Guo 2017, arXiv:1706.04599, eq. 5): 15 bins of equal width, of the largest
    probability."""
    confidence = p.max(1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gap = ((p.argmax(1) == y) - confidence)[:, None] * np.eye(BINS)[bins]
    return _ratio(np.abs(w @ gap.astype(w.dtype)).sum(1), w.sum(1))


def measures(classes: Sequence[str], folds: Labels | None = None) -> dict[str, Measure]:
    """All measures without a threshold for these classes, by name, the headline measure first.

    `folds` as in `macro_auc`, the only one that compares images with one another.
    """
    found: dict[str, Measure] = {
        "balanced_accuracy": balanced_accuracy,
        "accuracy": accuracy,
        "macro_auc": partial(macro_auc, folds=folds),
        "ece": ece,
    }
    return found | {f"recall_{c}": partial(recall, label=k) for k, c in enumerate(classes)}


# The measures of validation images by which arms are chosen, and whether more (1) or less (-1) is better.
DECIDING = {"balanced_accuracy": 1, "macro_auc": 1, "balanced_log_loss": -1}


def deciding(y: Labels, p: Array) -> dict[str, float]:
    """The measures in `DECIDING` of unweighted images."""
    whole = np.ones((1, len(y)))
    measured = (balanced_accuracy, macro_auc, balanced_log_loss)
    return {name: float(m(y, p, whole)[0]) for name, m in zip(DECIDING, measured, strict=True)}


def rests_on(measure: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes whose lesions a measure depends on one by one; () if all images count alike."""
    if measure in ("balanced_accuracy", "macro_auc"):
        return tuple(classes)
    own = measure.removeprefix("recall_") if measure != SENSITIVITY else MELANOMA
    return (own,) if own in classes else ()


def _ratio(part: Array, whole: Array) -> Array:
    whole = np.broadcast_to(whole, part.shape)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean_of_defined(x: Array) -> Array:
    """[B,K] -> [B]: mean of the values that are not NaN."""
    defined = ~np.isnan(x)
    return _ratio(np.where(defined, x, 0).sum(1), defined.sum(1).astype(float))
