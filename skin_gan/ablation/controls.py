"""Sample sets that a bench must judge rightly before it is believed: leaked, mislabelled, meaningless."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from skin_gan.ablation.parts import Split, labelled_part
from skin_gan.ablation.samples import SampleSet
from skin_gan.data.store import Store


def test_copies(
    store: Store, split: Split, size: int, count: int, seed: int = 0, labels: Sequence[str] | None = None
) -> dict[str, SampleSet]:
    """`count` images a class (None: of all), all of them test images, turned by quarters: must be caught.

    Their manifest claims the right fold: no fingerprint can see this.
    """
    part = labelled_part(store, split, "test", size)
    found = {}
    for k, label in _places(store, labels):
        rng, images = np.random.default_rng([seed, k]), part.images[part.labels == k]
        rows = np.resize(rng.permutation(len(images)), count)
        turns = rng.integers(4, size=count)
        copied = np.stack([np.rot90(images[i], n, (1, 2)) for i, n in zip(rows, turns, strict=True)])
        found[label] = _set(label, copied, split, "copies of test images")
    return found


test_copies.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def shuffled_labels(
    store: Store, split: Split, size: int, count: int, seed: int = 0, labels: Sequence[str] | None = None
) -> dict[str, SampleSet]:
    """`count` training images a class, every one of another class than it says: must be judged as harm.

    Give about as many as there are real images: 150 a class did 9.5 points of harm [6.0, 13.0] on top of
    class weights, but none that shows to a plain head, which hardly looks for rare classes.
    """
    part = labelled_part(store, split, "train", size)
    found = {}
    for k, label in _places(store, labels):
        others = np.random.default_rng([seed, k]).permutation(np.flatnonzero(part.labels != k))
        images = part.images[np.resize(others, count)]
        found[label] = _set(label, images, split, "training images of other classes")
    return found


def noise(
    store: Store, split: Split, size: int, count: int, seed: int = 0, labels: Sequence[str] | None = None
) -> dict[str, SampleSet]:
    """`count` images of independent pixels a class: must be judged as harm, or its gain ruled out."""
    found = {}
    for k, label in _places(store, labels):
        pixels = np.random.default_rng([seed, k]).integers(0, 256, (count, 3, size, size), dtype=np.uint8)
        found[label] = _set(label, pixels, split, "noise")
    return found


MAKERS: dict[str, Callable[..., dict[str, SampleSet]]] = {
    "test_copies": test_copies, "shuffled_labels": shuffled_labels, "noise": noise,
}  # fmt: skip


def _places(store: Store, labels: Sequence[str] | None) -> list[tuple[int, str]]:
    """The classes asked for, each with its place among all."""
    return [(k, c) for k, c in enumerate(store.classes) if labels is None or c in labels]


def _set(label: str, images: np.ndarray, split: Split, what: str) -> SampleSet:
    names = np.array([f"{i:05d}.png" for i in range(len(images))])
    return SampleSet(label, np.ascontiguousarray(images), names, split.fingerprint, {"control": what})
