"""What a score is given, and what real images score in place of generated ones.

Of most scores the value alone says nothing: the Frechet distance of two sets of real images is 60 at n = 100
and 18 at 700. The floor is what the same function returns when real images stand in for the generated ones.
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

SPLITS = 10  # of real images into stand-ins and the others
SUBSETS = 4  # at most so many subsets of the generated images are averaged over


@dataclass(frozen=True)
class Sides:
    """Features of images that are measured, generated or standing in for these, and of real ones."""

    fake: Array  # [N,d]
    real: Array  # [M,d]
    lesions: Groups  # [M]
    fake_lesions: Groups  # [N]; None: every image is its own
    seed: int


@dataclass(frozen=True)
class Comparison:
    """Generated images of a class and its real ones, `ref.train` and `ref.val`."""

    images: NDArray[np.uint8]  # [N,3,S,S]
    features: Array  # float32 [N,d]
    ref: Reference
    seed: int
    second: Comparison | None = None  # of the same images, by a second network

    @property
    def n_part(self) -> int:
        """How many real images can stand in for the generated ones: a validation set has to be left."""
        return min(len(self.images), len(self.ref.train.images))

    @cached_property
    def parts(self) -> NDArray[np.integer]:
        """[P,n_part]: places of generated images in subsets that real images can stand in for."""
        n, places = self.n_part, np.random.default_rng(self.seed).permutation(len(self.images))
        return places[: n * min(SUBSETS, len(places) // n)].reshape(-1, n)

    def at_equal_n(self, name: str, compare: Callable[[Sides], Row]) -> Row:
        """`compare`, a score that depends on n: its mean over the subsets of generated images against the
        validation images, and as KEY_floor its mean over splits of the real images, kept under `name`.
        """
        val = self.ref.val
        sides = (Sides(self.features[p], val.features, val.lesions, None, self.seed) for p in self.parts)
        floor = self.kept(name, lambda: _floors(map(compare, self.real_splits(SPLITS))))
        return {**mean_rows([compare(s) for s in sides]), **floor}

    def kept(self, name: str, compute: Callable[[], Mapping[str, float | None]]) -> Row:
        """What `compute` returns of real images alone: kept on disk for this class, fold and `n_part`."""
        ref = self.ref
        return cached_record(ref.cache, ("floors", name, ref.fingerprint, ref.label, self.n_part), compute)

    def real_splits(self, count: int) -> Iterator[Sides]:
        """Random splits by lesion of training and validation images together: one side has the validation
        set's size, and `n_part` images of the other stand in for generated ones.
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
    """k for a set of n images: 5, or less where a ball around an image would hold half of so small a set."""
    return max(1, min(wanted, (n - 1) // 2))


def _split(lesions: np.ndarray, n_fake: int, n_real: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of stand-ins and of reference images, in random order by lesion, without a lesion in common."""
    names, index, counts = np.unique(lesions, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    chosen, left = np.zeros(len(names), bool), n_real
    for lesion in order:
        if counts[lesion] <= left:
            chosen[lesion], left = True, left - counts[lesion]
    by_lesion = np.argsort(np.argsort(order)[index], kind="stable")
    is_real = chosen[index[by_lesion]]
    return by_lesion[~is_real][:n_fake], by_lesion[is_real]
