"""Classifier two-sample test (Lopez-Paz & Oquab 2017, arXiv:1610.06545)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skin_gan.metrics.arrays import Array, Groups, Row, distances, group_index
from skin_gan.metrics.comparison import Comparison

TRAINING = 512  # largest number of training images in the test against them

SCORES = {
    "c2st": ("lower", "AUC of telling generated from validation images; 0.5: not told apart"),
    "c2st_floor": ("", "the same of real images, at equal n"),
    "c2st_train": ("", "AUC against training images: well below 0.5 is a copying alarm"),
}


def score(c: Comparison) -> Row:
    train = c.ref.train
    some = np.random.default_rng(c.seed).permutation(len(train.images))[:TRAINING]
    first = c.features[c.parts[0]]
    return {
        **c.at_equal_n("c2st", lambda s: {"c2st": c2st(s.fake, s.real, s.lesions, s.fake_lesions, s.seed)}),
        "c2st_train": c2st(first, train.features[some], train.lesions[some], seed=c.seed),
    }


def c2st(
    fake: Array,
    real: Array,
    lesions: Groups = None,
    fake_lesions: Groups = None,
    seed: int = 0,
    folds: int = 5,
) -> float | None:
    """The AUC 0..1 of telling fake from real images: the mean over held-out folds, grouped by lesion.

    The classifier is logistic regression on 32 principal components of standardised features. 0.5: not told
    apart; 1: always. Well below 0.5 against *training* images means copying: copies lie on the wrong side
    because their originals were fitted. None if a side has fewer than two groups.
    """
    rng = np.random.default_rng(seed)
    sides = [group_index(fake_lesions, len(fake)), group_index(lesions, len(real))]
    folds = min(folds, *(count for _, count in sides))
    if folds < 2:
        return None
    fold = np.concatenate([(rng.permutation(count) % folds)[index] for index, count in sides])
    x, y = np.concatenate([fake, real]).astype(np.float32), np.repeat([1, 0], [len(fake), len(real)])
    return float(np.mean([_held_out_auc(x, y, fold == f, seed) for f in range(folds)]))


def _held_out_auc(x: Array, y: NDArray[np.integer], held_out: NDArray[np.bool_], seed: int) -> float:
    if not distances(x[~held_out][:1], x[~held_out]).any():
        return 0.5  # all are equal: there is nothing to tell them by, and no principal component
    components = min(32, x.shape[1], int((~held_out).sum()) - 1)
    model = make_pipeline(
        StandardScaler(),
        PCA(components, svd_solver="randomized", iterated_power=2, random_state=seed),
        LogisticRegression(max_iter=1000),
    )
    model.fit(x[~held_out], y[~held_out])
    return float(roc_auc_score(y[held_out], model.decision_function(x[held_out])))
