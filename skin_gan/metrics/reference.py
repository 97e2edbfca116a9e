"""The reference of an evaluation: real images, features and copy thresholds of one class and fold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from skin_gan.data.splits import halves
from skin_gan.data.store import ClassSplit, Part, Store, class_split
from skin_gan.errors import SkinGanError
from skin_gan.identity import content_hash
from skin_gan.metrics import copies
from skin_gan.metrics.arrays import Array, distances
from skin_gan.metrics.cache import FeatureCache, cached_record
from skin_gan.metrics.features import Extractor

SAMPLE = 256  # images from which the scale of distances is computed

Progress = Callable[[int, int], object]  # called with (images done, all images)


@dataclass(frozen=True)
class RealSet:
    """Real images with their features."""

    images: np.ndarray  # uint8 [N,3,H,W]
    lesions: np.ndarray  # str [N]
    features: Array  # float32 [N,d]


@dataclass(frozen=True)
class Reference:
    """The real images of one class, of training and validation, with which generated ones are compared."""

    label: str
    size: int
    fold: int
    unit: str  # unit of the split: "lesion" or "image"
    fingerprint: str  # of data, split and fold, and of the half if it has one
    extractor: str
    weights_sha: str
    train: RealSet
    val: RealSet
    training: copies.Training
    thresholds: copies.Thresholds
    scale: float  # half the median distance between different images
    cache: Path  # folder of cached records of this store, size and extractor
    # The same images by a second network: it has real sets and a cache of its own, while copies and diversity
    # are judged by the first.
    second: Reference | None = None

    def half(self, which: int) -> Reference:
        """The reference with one half of the validation lesions, see `skin_gan.data.splits.halves`.

        Training images and the thresholds of the copy checks, which judge no generator, stay those of all.
        """
        rows = halves(self.val.lesions.tolist()) == which
        val = RealSet(self.val.images[rows], self.val.lesions[rows], self.val.features[rows])
        second = self.second and self.second.half(which)
        fingerprint = content_hash([self.fingerprint, "half", which], 16)
        return replace(self, val=val, fingerprint=fingerprint, second=second)


def reference(
    store: Store,
    label: str,
    size: int,
    fold: int,
    cache: Path,
    extractor: Extractor,
    second: Extractor | None = None,
) -> Reference:
    """The reference of class `label` at `size` pixels, cached in `cache`.

    The first call computes the features of all images of the class; for a class of fewer than 1,000 images
    those of all such classes, since they share the thresholds of the copy checks. The network `second`, which
    does not judge copies, sees the images of the class only.
    """
    features = FeatureCache(store, size, cache, extractor)
    split = class_split(store, label, size, fold)
    train, val = _real_sets(features, split)
    thresholds = cached_record(
        features.folder,
        ("copies", split.fingerprint, label),
        lambda: asdict(copies.thresholds(label, _held_out(features, split))),
    )
    found = Reference(
        label=label,
        size=size,
        fold=fold,
        unit=split.unit,
        fingerprint=split.fingerprint,
        extractor=extractor.name,
        weights_sha=extractor.weights_sha,
        train=train,
        val=val,
        training=_training(train),
        thresholds=copies.Thresholds(**thresholds),
        scale=_scale(np.concatenate([train.features, val.features])),
        cache=features.folder,
    )
    if second is None:
        return found
    features = FeatureCache(store, size, cache, second)
    train, val = _real_sets(features, split)
    own = replace(
        found,
        extractor=second.name,
        weights_sha=second.weights_sha,
        train=train,
        val=val,
        cache=features.folder,
    )
    return replace(found, second=own)


def warm(
    store: Store,
    size: int,
    cache: Path,
    extractor: Extractor,
    labels: Sequence[str] | None = None,
    progress: Progress | None = None,
    second: Extractor | None = None,
) -> None:
    """Compute the features that references of `labels` (default: all classes) need and `cache` lacks.

    On one free CPU thread an image takes about 12 ms by the first network and half of that by the second
    (twice that from 128 pixels on). After an interruption it resumes at the same class.
    """
    labels = labels or store.classes
    pools = {c for label in labels for c in _pool(store, label)}
    first = FeatureCache(store, size, cache, extractor)
    wanted = [(first, label) for label in sorted(pools) if not first.has(label)]
    if second is not None:
        other = FeatureCache(store, size, cache, second)
        wanted += [(other, label) for label in sorted(set(labels)) if not other.has(label)]
    total, done = sum(store.counts[label] for _, label in wanted), 0
    for features, label in wanted:
        start = done

        def report(n: int, start: int = start) -> None:
            if progress:
                progress(start + n, total)

        features.of_class(label, report)
        done += store.counts[label]
        report(store.counts[label])


def _pool(store: Store, label: str) -> list[str]:
    """The classes whose held-out images set the copy thresholds of `label`: itself, or all small ones.

    A fifth of a class is validation, so 1,000 images have the 200 that a 1st percentile needs.
    """
    if label not in store.classes:
        raise SkinGanError(
            f"store {store.name} has no class {label!r}: choose from {', '.join(store.classes)}"
        )
    small = [c for c in store.classes if store.counts[c] < 5 * copies.ENOUGH]
    return small if label in small else [label]


def _held_out(features: FeatureCache, split: ClassSplit) -> dict[str, copies.Distances]:
    """Validation-to-training distances within each class of the pool."""
    found = {}
    for label in _pool(features.store, split.label):
        with contextlib.suppress(SkinGanError):  # a class that is too small to be split
            own = label == split.label  # its images are in memory already
            part = split if own else class_split(features.store, label, split.size, split.fold)
            train, val = _real_sets(features, part)
            found[label] = _training(train).distances(val.features, val.images)
    return found


def _real_sets(features: FeatureCache, split: ClassSplit) -> tuple[RealSet, RealSet]:
    """Training and validation images with their features."""

    def real_set(part: Part) -> RealSet:
        return RealSet(part.images, part.lesions, features.of_images(split.label, part.image_ids))

    return real_set(split.train), real_set(split.val)


def _training(train: RealSet) -> copies.Training:
    return copies.Training(train.features, train.images, train.lesions)


def _scale(features: Array) -> float:
    """Half the median distance between images: the Vendi score's width."""
    some = features[np.random.default_rng(0).permutation(len(features))[:SAMPLE]]
    between = distances(some, some)
    return 0.5 * float(np.median(between[np.triu_indices(len(some), 1)]))
