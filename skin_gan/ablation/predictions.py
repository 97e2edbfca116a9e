"""Class probabilities of one classifier on real images, the input of all statistics. No torch."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skin_gan.errors import SkinGanError
from skin_gan.identity import content_hash
from skin_gan.io import write_atomic

COLUMNS = ("image_ids", "lesions", "labels", "probabilities")


@dataclass(frozen=True)
class Predictions:
    """N images in the order of their ids, K classes."""

    classes: tuple[str, ...]
    image_ids: NDArray[np.str_]  # [N]
    lesions: NDArray[np.str_]  # [N] images of one lesion are not independent
    labels: NDArray[np.int64]  # [N] true class, 0..K-1
    probabilities: NDArray[np.float32]  # [N,K], rows sum to 1
    record: Mapping[str, Any] = field(default_factory=dict)  # settings, seed, fingerprints; JSON-able
    # [N] classified as melanoma by a threshold from the run's validation images; None: unknown. Not saved.
    alarms: NDArray[np.bool_] | None = None
    # [N] the fold 0..F-1 whose classifier predicted each image; None: one classifier. Not saved.
    folds: NDArray[np.int64] | None = None

    @cached_property
    def test(self) -> str:
        """A hash of image ids, lesions and true classes; only predictions with equal ones can be paired."""
        rows = [self.image_ids.tolist(), self.lesions.tolist(), self.labels.tolist(), list(self.classes)]
        return content_hash(rows, 16)

    def save(self, path: Path) -> None:
        """Write one .npz file, replaced as a whole."""
        columns = {name: getattr(self, name) for name in COLUMNS}
        head = json.dumps({"classes": self.classes, "record": self.record}, allow_nan=False)
        write_atomic(path, lambda file: np.savez_compressed(file, head=np.array(head), **columns))


def predictions(
    classes: Sequence[str],
    image_ids: NDArray[np.str_],
    lesions: NDArray[np.str_],
    labels: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    record: Mapping[str, Any] | None = None,
) -> Predictions:
    """Predictions in the order of their image ids. SkinGanError for repeated ids or invalid probabilities."""
    order = np.argsort(image_ids, kind="stable")
    ids, p = np.asarray(image_ids)[order], np.asarray(probabilities, np.float32)[order]
    if len(np.unique(ids)) < len(ids):
        raise SkinGanError("predictions name an image twice: expected each test image once, in one fold")
    if p.shape != (len(ids), len(classes)) or not np.isfinite(p).all() or (p < 0).any():
        raise SkinGanError(
            f"expected a probability for each of {len(ids)} images and {len(classes)} classes, got an array "
            f"{list(p.shape)} or values that are none: the classifier diverged; lower its learning rate"
        )
    labels, lesions = np.asarray(labels, np.int64)[order], np.asarray(lesions)[order]
    return Predictions(tuple(classes), ids, lesions, labels, p, record or {})


def load(path: Path) -> Predictions:
    """Load saved predictions; SkinGanError if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(str(file["head"]))
            columns = [file[name] for name in COLUMNS]
        ids, lesions, labels, p = columns
        return predictions(head["classes"], ids, lesions, labels, p, head["record"])
    except FileNotFoundError as e:
        raise SkinGanError(f"{path} is missing: its run has not finished; launch it again") from e
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as e:
        raise SkinGanError(f"{path} is damaged ({e}): remove it and run the same command again") from e


def averaged(folds: Sequence[Predictions]) -> Predictions:
    """The mean of the predictions that the classifiers of several folds made on the same images."""
    if len({p.test for p in folds}) != 1:
        raise SkinGanError("classifiers were tested on different images outside: launch again")
    mean = np.mean([p.probabilities for p in folds], axis=0)
    return replace(folds[0], probabilities=mean, record={"folds": [dict(p.record) for p in folds]})


def pooled(folds: Sequence[Predictions]) -> Predictions:
    """The test predictions of several folds of one arm and seed in one; each image is in one fold."""
    if len({p.classes for p in folds}) != 1:
        raise SkinGanError("folds with different classes cannot be pooled: expected runs on one store")
    ids, lesions, labels, p = (np.concatenate([getattr(f, name) for f in folds]) for name in COLUMNS)
    record = {"folds": [dict(f.record) for f in folds]}
    whole = predictions(folds[0].classes, ids, lesions, labels, p, record)
    order = np.argsort(ids, kind="stable")
    whole = replace(whole, folds=np.repeat(np.arange(len(folds)), [len(f.labels) for f in folds])[order])
    alarms = [f.alarms for f in folds if f.alarms is not None]
    if len(alarms) < len(folds):
        return whole
    return replace(whole, alarms=np.concatenate(alarms)[order])
