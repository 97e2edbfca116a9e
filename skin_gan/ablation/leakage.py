"""Tests whether generated images repeat test photographs, which would invalidate a classifier's score.

A generator that was not trained on the held-out lesions comes near them as rarely as photographs of other
lesions do. So the threshold for near comes from the training images, which cannot be copies of held-out ones,
and the share of near generated images is compared with that of training images. An image that is nearer to a
training image of any class is no copy of a held-out one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from skin_gan.metrics import copies

Array = NDArray[np.floating]
CHUNK = 1000  # images compared at a time: bounds memory
SIGNIFICANT = 1e-3  # p value below which a share of near copies is significant
RATE = 0.02  # smallest expected share of near copies: the checks' false alarms, see `metrics.copies.judge`


@dataclass(frozen=True)
class Images:
    """Images with their features."""

    images: NDArray[np.uint8]  # [N,3,S,S]
    features: Array  # [N,d]
    lesions: NDArray[np.str_]  # [N]


@dataclass(frozen=True)
class Leakage:
    """The result of the test on generated images of one class."""

    near: NDArray[np.bool_]  # [M] which of the judged images are near copies of held-out images
    images: int  # N, the number of images searched for identical ones
    identical: int  # images equal to a held-out image in every pixel, rotated or mirrored
    share: float  # of near copies among the judged images, 0..1
    expected: float  # the share among training images, 0..1
    p: float  # probability of so many near copies by chance
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
    """Test generated images uint8 [N,3,S,S] against held-out images of their class.

    `features` [M,d] are of the images at `rows` [M] (None: of all); only these are tested for near copies,
    all for identical ones. `train`: training images of the class, which set the thresholds; `seen`: training
    images of all classes. A set is caught if an image is identical or if significantly many are near. A few
    altered copies among hundreds of new images can pass; `near` shows which images to look at.
    """
    search = copies.Training(held_out.features, held_out.images, held_out.lesions)
    real = search.distances(train.features, train.images)
    # With a pool of one, the thresholds come from this class alone, even if it is small.
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
    """A hash of the pixels, which saves the memory of thousands of images in eight orientations."""
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()
