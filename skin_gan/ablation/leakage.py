"""Do generated images repeat photographs that a classifier is tested on? Then its score means nothing.

A generator that has never seen the held-out lesions comes near them no more often than photographs of other
lesions do. So near is learnt from the training images, which cannot be copies of held-out ones, and the share
of generated images found near is compared with the share of training images that is. What is nearer still to
a training image, of any class, was not taken from a held-out one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from skin_gan.metrics import copies

Array = NDArray[np.floating]
CHUNK = 1000  # images held against others at a time: bounds memory
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

    near: NDArray[np.bool_]  # [M] of the images that were judged: near copies of held-out images
    images: int  # N, all of which were looked through for identical ones
    identical: int  # equal to a held-out image in every pixel, turned or mirrored
    share: float  # of near copies among the judged images, 0..1
    expected: float  # the share among training images, 0..1
    p: float  # of so many near copies by chance
    caught: bool

    @property
    def why(self) -> str:
        """One sentence."""
        judged, same = len(self.near), self.identical
        of = f"{judged:,} judged of {self.images:,}" if judged < self.images else f"{judged:,}"
        found = f"{int(self.near.sum()):,} of {of} generated images are near copies of held-out images"
        exact = f"; {same:,} of {self.images:,} are identical to one" if same else ""
        return f"{found}, {100 * self.expected:.1f}% would be expected (p = {self.p:.2g}){exact}"


def leakage(
    images: NDArray[np.uint8],
    features: Array,
    held_out: Images,
    train: Images,
    seen: Images,
    rows: NDArray[np.integer] | None = None,
) -> Leakage:
    """Judge generated images uint8 [N,3,S,S] against held-out images of their class.

    `features` [M,d] are those of the images at `rows` [M] (None: of all), which alone are judged near or not;
    identical ones are looked for among all. `train`: training images of the class, of which it is learnt what
    is near; `seen`: those of all classes. Caught: one image is identical, or more are near than chance
    explains. A set that holds a few altered copies among hundreds of new images can pass; `near` says which
    images to look at.
    """
    search = copies.Training(held_out.features, held_out.images, held_out.lesions)
    real = search.distances(train.features, train.images)
    # under one name, so that they rest on this class's own images, however few
    limits = copies.thresholds("train", {"train": real})
    rows = np.arange(len(images)) if rows is None else rows
    same = identical(images, held_out.images)
    near = _near(images[rows], features, same[rows], search, limits, seen)
    expected = float(copies.judge(real, limits).mean())
    p = float(binomtest(int(near.sum()), len(near), max(expected, RATE), alternative="greater").pvalue)
    caught = bool(same.any()) or p < SIGNIFICANT
    return Leakage(near, len(images), int(same.sum()), float(near.mean()), expected, p, caught)


def _near(
    images: NDArray[np.uint8],
    features: Array,
    same: NDArray[np.bool_],
    search: copies.Training,
    limits: copies.Thresholds,
    seen: Images,
) -> NDArray[np.bool_]:
    """[N]: near copies of the held-out images in `search` that are no nearer to a training image.

    `same` [N]: known to be identical to a held-out image.
    """
    chunks = [slice(i, i + CHUNK) for i in range(0, len(images), CHUNK)]
    parts = [search.distances(features[c], images[c]) for c in chunks]
    columns = ([getattr(part, f.name) for part in parts] for f in fields(copies.Distances))
    found = copies.Distances(*map(np.concatenate, columns))
    near = same | copies.judge(found, limits)
    suspect = np.flatnonzero(near & ~same)  # few: only these need be held against all training images
    if len(suspect):
        training = copies.Training(seen.features, seen.images, seen.lesions)
        away = training.distances(features[suspect], images[suspect])
        feature, pixel = found.feature[suspect], found.pixel[suspect]
        near[suspect] = (feature <= away.feature) | (pixel <= away.pixel)
    return near


def identical(images: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """[N]: which images equal one of the others in every pixel, in one of its 8 flips and quarter turns."""
    known = {_digest(turned) for x in others for turned in copies.orientations(x[None])}
    return np.array([_digest(x) in known for x in images], bool)


def _digest(image: NDArray[np.uint8]) -> bytes:
    """Stands for the pixels: thousands of images in eight turns need not be held."""
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()
