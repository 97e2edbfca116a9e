"""The input of a score, and its floor: the score of real images in place of generated ones.

Most scores mean nothing without a floor: the Frechet distance between two sets of real images is 60 at
n = 100 and 18 at n = 700.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skin_gan.metrics.arrays import Array, Groups, Row, mean_rows
from skin_gan.metrics.cache import cached_record
from skin_gan.metrics.reference import Reference

SPLITS = 10  # random splits of the real images into stand-ins and others
SUBSETS = 4  # largest number of subsets of generated images to average over


@dataclass(frozen=True)
class Sides:
    """Features of generated images, or of real ones in their place, and of real images."""

    fake: Array  # [N,d]
    real: Array  # [M,d]
    lesions: Groups  # [M]
    fake_lesions: Groups  # [N]; None: every image is its own group
    seed: int


@dataclass(frozen=True)
class Comparison:
    """Generated images of a class and its real images, `ref.train` and `ref.val`."""

    images: NDArray[np.uint8]  # [N,3,S,S]
    features: Array  # float32 [N,d]
    ref: Reference
    seed: int
    second: Comparison | None = None  # of the same images, by a second network

    @property
    def n_part(self) -> int:
        """The number of real images that can replace the generated ones, apart from a validation set."""
        return min(len(self.images), len(self.ref.train.images))

    @cached_property
    def parts(self) -> NDArray[np.integer]:
        """[P,n_part]: places of generated images in subsets of `n_part`."""
        n, places = self.n_part, np.random.default_rng(self.seed).permutation(len(self.images))
        return places[: n * min(SUBSETS, len(places) // n)].reshape(-1, n)

    def at_equal_n(self, name: str, compare: Callable[[Sides], Row]) -> Row:
        """A score `compare` that depends on n, at equal n for generated and real images.

        KEY is its mean over the subsets of generated images against the validation images, KEY_floor its mean
        over splits of the real images, cached under `name`.
        """
        val = self.ref.val
        sides = (Sides(self.features[p], val.features, val.lesions, None, self.seed) for p in self.parts)
        floor = self.kept(name, lambda: _floors(map(compare, self.real_splits(SPLITS))))
        return {**mean_rows([compare(s) for s in sides]), **floor}

    def kept(self, name: str, compute: Callable[[], Mapping[str, float | None]]) -> Row:
        """A score of real images alone, cached on disk for this class, fold and `n_part`."""
        ref = self.ref
        return cached_record(ref.cache, ("floors", name, ref.fingerprint, ref.label, self.n_part), compute)

    def real_splits(self, count: int) -> Iterator[Sides]:
        """Random splits of training and validation images together by lesion.

        One side has the size of the validation set; `n_part` images of the other replace generated ones.
        """
        train, val = self.ref.train, self.ref.val
        features = np.concatenate([train.features, val.features])
        lesions = np.concatenate([train.lesions, val.lesions])
        for seed in range(count):
            a, b = _split(lesions, self.n_part, len(val.images), seed)
            yield Sides(features[a], features[b], lesions[b], lesions[a], seed)


def _floors(rows: Iterator[Row]) -> Row:
    return {f"{key}_floor": value for key, value in mean_rows(list(rows)).items()}


def neighbours(n: int, wanted: int = 5) -> int:
    """k for a set of n images: 5, or less if that would be half of a small set."""
    return max(1, min(wanted, (n - 1) // 2))


def _split(lesions: np.ndarray, n_fake: int, n_real: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of `n_fake` and `n_real` images without a common lesion, in random order by lesion."""
    names, index, counts = np.unique(lesions, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    chosen, left = np.zeros(len(names), bool), n_real
    for lesion in order:
        if counts[lesion] <= left:
            chosen[lesion], left = True, left - counts[lesion]
    by_lesion = np.argsort(np.argsort(order)[index], kind="stable")
    is_real = chosen[index[by_lesion]]
    return by_lesion[~is_real][:n_fake], by_lesion[is_real]
