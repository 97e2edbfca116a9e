"""Splits for classifiers into training, validation and test images: by lesion, or by image as is common.

Unlike `class_split` for GANs, these hold all classes and the test images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skin_gan.data.splits import N_FOLDS
from skin_gan.data.store import Store, fold_fingerprint
from skin_gan.errors import SkinGanError
from skin_gan.identity import content_hash

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """The part of each image of a store."""

    unit: Literal["lesion", "image"]  # unit of the split
    parts: NDArray[np.str_]  # [N] "train", "val" or "test", in the manifest's order
    fingerprint: str  # of data and split
    name: str  # for people

    @property
    def honest(self) -> bool:
        """Whether no lesion lies in two parts by construction."""
        return self.unit == "lesion"


@dataclass(frozen=True)
class LabelledPart:
    """Images of all classes (or one) in one part."""

    images: NDArray[np.uint8]  # [N,3,H,W] in 0..255
    labels: NDArray[np.int64]  # [N] place of the class in the store's list
    lesions: NDArray[np.str_]  # [N]
    image_ids: NDArray[np.str_]  # [N]
    rows: NDArray[np.int64]  # [N] place in the store


@dataclass(frozen=True)
class Leak:
    """How much of a test part shows lesions of the training part."""

    test_images: int
    seen_images: int  # test images of a lesion that also has images in training or validation
    share: float  # seen_images / test_images, 0..1
    seen_lesions: int


def lesion_split(store: Store, fold: int) -> Split:
    """The project's split: test is fold `fold`, validation the next, training the other three.

    From N_FOLDS on test is a source, see `Store.parts`.
    """
    name = f"fold {fold}" if fold < N_FOLDS else f"source {store.sources[fold - N_FOLDS]} held out"
    return Split("lesion", store.parts(fold), fold_fingerprint(store, fold), f"by lesion, {name}")


def image_split(store: Store, seed: int = 0, test: float = 0.2, val: float = 0.0) -> Split:
    """A random split of images within each class, regardless of lesions, as in many publications: it leaks.

    `test` and `val` are shares of the images, 0..1: 0.2 and 0 for an 80/20 split, 0.2 and 0.1 for
    DermaMNIST's 70/10/20. It serves to show the difference to the honest split, see `leak`.
    """
    if not (0 < test < 1 and val >= 0 and test + val < 1):
        raise SkinGanError(f"test={test}, val={val}: expected shares above 0 that leave some for training")
    rng = np.random.default_rng(seed)
    labels = store.column("dx")
    order = store.column("image_id").argsort(kind="stable")
    parts = np.full(len(labels), "train", dtype="<U5")
    for label in store.classes:
        rows = rng.permutation(order[labels[order] == label])
        n_test, n_val = round(test * len(rows)), round(val * len(rows))
        parts[rows[:n_test]] = "test"
        parts[rows[n_test : n_test + n_val]] = "val"
    recipe = {"data": store.fingerprint, "split": "by image v1", "seed": seed, "test": test, "val": val}
    return Split("image", parts, content_hash(recipe, 16), f"by image, seed {seed}")


def leak(store: Store, split: Split) -> Leak:
    """Test images whose lesion is also outside the test part. 0 for a split by lesion."""
    seen = seen_rows(store, split)
    n, n_seen = int((split.parts == "test").sum()), int(seen.sum())
    lesions = store.column("group")[seen]
    return Leak(n, n_seen, n_seen / n if n else 0.0, len(np.unique(lesions)))


def seen_rows(store: Store, split: Split) -> NDArray[np.bool_]:
    """[N] in the manifest's order: test images of a lesion that is also outside the test part."""
    groups = store.column("group")
    is_test = split.parts == "test"
    return is_test & np.isin(groups, groups[~is_test])


def labelled_part(
    store: Store, split: Split, parts: str | Sequence[str], size: int, label: str | None = None
) -> LabelledPart:
    """The images of one part (or several) at `size` pixels; of one class where `label` is given."""
    wanted = [parts] if isinstance(parts, str) else list(parts)
    unknown = [p for p in wanted if p not in PARTS]
    if unknown or (label is not None and label not in store.classes):
        raise SkinGanError(
            f"part {unknown or wanted}, class {label}: choose parts of {', '.join(PARTS)} and a class of "
            f"{', '.join(store.classes)}"
        )
    dx = store.column("dx")
    mask = np.isin(split.parts, wanted) & (True if label is None else dx == label)
    rows = np.flatnonzero(mask)
    text = store.manifest.iloc[rows]
    return LabelledPart(
        images=store.pixels(size, rows),
        labels=np.array([store.classes.index(c) for c in dx[rows]], dtype=np.int64),
        lesions=text["group"].to_numpy(dtype=str),
        image_ids=text["image_id"].to_numpy(dtype=str),
        rows=rows,
    )
