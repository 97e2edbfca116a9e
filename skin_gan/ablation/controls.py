"""Sample sets that a bench must judge rightly before it is believed: leaked, mislabelled, meaningless."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from skin_gan.ablation.parts import LabelledPart, Split, labelled_part
from skin_gan.ablation.samples import SampleSet
from skin_gan.data.store import Store


def test_copies(store: Store, split: Split, size: int, count: int, seed: int = 0) -> dict[str, SampleSet]:
    """`count` images a class, all of them test images, turned by quarters: must be caught as leakage.

    Their manifest claims the right fold: no fingerprint can see this.
    """
    part = labelled_part(store, split, "test", size)
    rng = np.random.default_rng(seed)
    found = {}
    for label, images in _by_class(store, part).items():
        rows = np.resize(rng.permutation(len(images)), count)
        turns = rng.integers(4, size=count)
        copied = np.stack([np.rot90(images[i], k, (1, 2)) for i, k in zip(rows, turns, strict=True)])
        found[label] = _set(label, copied, split, "copies of test images")
    return found


test_copies.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def shuffled_labels(store: Store, split: Split, size: int, count: int, seed: int = 0) -> dict[str, SampleSet]:
    """`count` training images a class, every one of another class than it says: must be judged as harm.

    Give about as many as there are real images: 150 a class did 9.5 points of harm [6.0, 13.0] on top of
    class weights, but none that shows to a plain head, which hardly looks for rare classes.
    """
    part = labelled_part(store, split, "train", size)
    rng = np.random.default_rng(seed)
    found = {}
    for k, label in enumerate(store.classes):
        others = np.flatnonzero(part.labels != k)
        rows = np.resize(rng.permutation(others), count)
        found[label] = _set(label, part.images[rows], split, "training images of other classes")
    return found


def noise(store: Store, split: Split, size: int, count: int, seed: int = 0) -> dict[str, SampleSet]:
    """`count` images of independent pixels a class: must be judged as harm, or as no benefit."""
    rng = np.random.default_rng(seed)
    shape = (count, 3, size, size)
    return {
        label: _set(label, rng.integers(0, 256, shape, dtype=np.uint8), split, "noise")
        for label in store.classes
    }


def _by_class(store: Store, part: LabelledPart) -> Mapping[str, np.ndarray]:
    return {c: part.images[part.labels == k] for k, c in enumerate(store.classes)}


def _set(label: str, images: np.ndarray, split: Split, what: str) -> SampleSet:
    names = np.array([f"{i:05d}" for i in range(len(images))])
    return SampleSet(label, np.ascontiguousarray(images), names, split.fingerprint, {"control": what})
