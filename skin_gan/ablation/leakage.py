"""Do generated images repeat photographs that a classifier is tested on? Then its score means nothing.

A generator that has never seen the held-out lesions comes near them no more often than photographs of other
lesions do. So near is learnt from the training images, which cannot be copies of held-out ones, and the share
of generated images found near is compared with the share of training images that is. What is nearer still to
a training image, of any class, was not taken from a held-out one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from skin_gan.metrics import copies

Array = NDArray[np.floating]
SIGNIFICANT = 1e-3  # p value below which a share of near copies is no chance
RATE = (
    0.02  # near copies that are expected at least: the checks' own false alarms, see `metrics.copies.judge`
)


@dataclass(frozen=True)
class Images:
    """Images with their features."""

    images: NDArray[np.uint8]  # [N,3,S,S]
    features: Array  # [N,d]
    lesions: NDArray[np.str_]  # [N]


@dataclass(frozen=True)
class Leakage:
    """What a set of generated images of one class repeats of the held-out photographs."""

    near: NDArray[np.bool_]  # [N] judged near copies of held-out images
    identical: int  # equal to a held-out image in every pixel
    share: float  # of near copies among the generated images, 0..1
    expected: float  # the share among training images, 0..1
    p: float  # of so many near copies by chance
    caught: bool

    @property
    def why(self) -> str:
        """One sentence."""
        found = (
            f"{int(self.near.sum())} of {len(self.near)} generated images are near copies of held-out images"
        )
        same = f", {self.identical} of them identical" if self.identical else ""
        return f"{found}{same}; {100 * self.expected:.1f}% would be expected (p = {self.p:.2g})"


def leakage(
    images: NDArray[np.uint8], features: Array, held_out: Images, train: Images, seen: Images
) -> Leakage:
    """Judge generated images uint8 [N,3,S,S] with features [N,d] against held-out images of their class.

    `train`: training images of that class, of which it is learnt what is near; `seen`: those of all classes.
    Caught: one image is identical, or more are near than chance explains. A set that holds a few altered
    copies among hundreds of new images can pass; `near` says which images to look at.
    """
    search = copies.Training(held_out.features, held_out.images, held_out.lesions)
    real = search.distances(train.features, train.images)
    # under one name, so that they rest on this class's own images, however few
    limits = copies.thresholds("train", {"train": real})
    to_held_out = search.distances(features, images)
    to_seen = copies.Training(seen.features, seen.images, seen.lesions).distances(features, images)
    nearer = (to_held_out.feature <= to_seen.feature) | (to_held_out.pixel <= to_seen.pixel)
    near = copies.judge(to_held_out, limits) & nearer
    expected = float(copies.judge(real, limits).mean())
    p = float(binomtest(int(near.sum()), len(near), max(expected, RATE), alternative="greater").pvalue)
    known = {x.tobytes() for x in held_out.images}
    identical = sum(x.tobytes() in known for x in images)
    caught = identical > 0 or p < SIGNIFICANT
    return Leakage(near, identical, float(near.mean()), expected, p, caught)
