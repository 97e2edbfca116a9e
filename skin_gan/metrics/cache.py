"""Caches features of real images, and records of numbers computed from them, on disk.

Files are replaced atomically and computed by one process at a time; all can be removed at any moment:

    CACHE/<store fingerprint>-<size>-<weights>/
        df.npy                       float32 [N,d]: features of all images of the class, by image id
        copies-<split>-df-v2.json    thresholds of the copy checks
        floors-kid-<split>-df-57-v2.json   real-vs-real values for 57 images on the generated side
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from skin_gan.data.store import Store
from skin_gan.io import lock, read_json, write_atomic
from skin_gan.metrics.arrays import Array
from skin_gan.metrics.features import Extractor

VERSION = 2  # of the cached records: raise it when their method changes
CHUNK = 256  # images read from the store at a time
WAIT = 3600.0  # seconds to wait for another process that computes the same file

ClassProgress = Callable[[int], object]  # called with the number of images done


@dataclass(frozen=True)
class FeatureCache:
    """Features of one store's images at one size, computed on first use."""

    store: Store
    size: int  # pixels
    root: Path
    extractor: Extractor

    @property
    def folder(self) -> Path:
        return Path(self.root) / f"{self.store.fingerprint}-{self.size}-{self.extractor.weights_sha}"

    def of_images(self, label: str, image_ids: NDArray[np.str_]) -> Array:
        """Features float32 [N,d] of images of class `label` by their ids [N], in that order."""
        ids = np.sort(self._rows(label)[0])
        return self.of_class(label)[np.searchsorted(ids, image_ids)]

    def of_class(self, label: str, progress: ClassProgress | None = None) -> Array:
        """Features float32 [N,d] of all images of a class, in the order of their ids.

        The store's order may differ between stores of one fingerprint.
        """
        file = self.folder / f"{quote(label, safe='')}.npy"
        features = self._load(file, label)
        if features is None:
            with _sole_writer(file, f"the features of {label}"):
                features = self._load(file, label)
                if features is None:
                    computed = features = self._extract(label, progress)
                    write_atomic(file, lambda f: np.save(f, computed, allow_pickle=False))
        return features

    def has(self, label: str) -> bool:
        """Whether the features of the class are cached."""
        return self._load(self.folder / f"{quote(label, safe='')}.npy", label) is not None

    def _load(self, file: Path, label: str) -> Array | None:
        """The cached features, or None if there are none of the right shape."""
        try:
            features = np.load(file, allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):
            return None
        return features if features.shape == (self.store.counts[label], self.extractor.dimensions) else None

    def _extract(self, label: str, progress: ClassProgress | None) -> Array:
        """Compute the features of a class."""
        ids, rows = self._rows(label)
        rows = rows[np.argsort(ids)]
        out = np.empty((len(rows), self.extractor.dimensions), np.float32)
        for start in range(0, len(rows), CHUNK):
            batch = self.store.pixels(self.size, rows[start : start + CHUNK])
            out[start : start + len(batch)] = self.extractor(batch)
            if progress:
                progress(start + len(batch))
        return out

    def _rows(self, label: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids and places in the store of the images of one class."""
        rows = np.flatnonzero(self.store.column("dx") == label)
        return self.store.column("image_id")[rows], rows


def cached_record(
    folder: Path, name: tuple[object, ...], compute: Callable[[], Mapping[str, Any]]
) -> dict[str, Any]:
    """The cached record `name` (its parts are joined) in `folder`, computed by `compute` if it is missing."""
    file = folder / ("-".join(quote(str(part), safe="") for part in name) + f"-v{VERSION}.json")
    value = read_json(file)
    if value is None:
        with _sole_writer(file, "-".join(str(part) for part in name)):
            value = read_json(file)
            if value is None:
                with one_thread():
                    value = dict(compute())
                write_atomic(file, json.dumps(value, allow_nan=False))
    return value


def one_thread() -> threadpool_limits:
    """A context in which NumPy's BLAS uses one thread.

    The matrices are small, and threads that wait for a busy core spin: with other trials on two cores the
    C2ST took 8.8 s with two threads and 0.2 s with one.
    """
    return threadpool_limits(1, user_api="blas")


@contextlib.contextmanager
def _sole_writer(file: Path, what: str) -> Iterator[None]:
    """Keep other processes from computing the same file; after an hour's wait compute it anyway."""
    with lock(file.with_suffix(".lock"), wait=WAIT, what=what):
        yield
