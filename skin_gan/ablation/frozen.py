"""Features of a frozen network for classifiers, computed once and cached on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from skin_gan.ablation.augment import DRAWS, augment
from skin_gan.ablation.samples import SampleSet
from skin_gan.data.store import Store
from skin_gan.io import lock, write_atomic
from skin_gan.metrics.cache import FeatureCache
from skin_gan.metrics.features import Extractor
from skin_gan.pixels import digest, pieces

VIEWS = 4  # augmented views of each training image, beside the image itself
VIEWS_VERSION = 1  # raise it when the augmentation changes
WAIT = 3600.0  # seconds to wait for another process that computes the same
CHUNK = 256  # images whose features are computed, and kept in one file, at a time

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Frozen:
    """Features of a store's images and of any others, at one size, by one extractor."""

    store: Store
    size: int
    cache: Path  # shared with skin_gan.metrics: features of the store's images are the same files
    extractor: Extractor

    @cached_property
    def all_real(self) -> Features:
        """[N,d] of all images of the store, in the manifest's order."""
        kept = FeatureCache(self.store, self.size, self.cache, self.extractor)
        dx = self.store.column("dx")
        ids = self.store.column("image_id")
        out = np.empty((len(ids), self.extractor.dimensions), np.float32)
        for label in self.store.classes:
            rows = np.flatnonzero(dx == label)
            out[rows[np.argsort(ids[rows])]] = kept.of_class(label)
        return out

    def of(self, images: NDArray[np.uint8]) -> Features:
        """[N,d] of images uint8 [N,3,S,S], cached in chunks by content, so that larger sets reuse them."""
        parts = [self._kept("images", images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
        return np.concatenate([np.empty((0, self.extractor.dimensions), np.float32), *parts])

    def unknown(self, images: NDArray[np.uint8]) -> int:
        """The number of images in chunks whose features are not cached."""
        chunks = (images[i : i + CHUNK] for i in range(0, len(images), CHUNK))
        return sum(len(chunk) for chunk in chunks if not self._file("images", chunk).exists())

    def of_sample(self, sample: SampleSet, n: int) -> Features:
        """[n,d] of the first n images of a sample set; for a subset, rows of the whole set's features."""
        if sample.whole is None or sample.rows is None:
            return self.of(sample.images[:n])
        rows = sample.rows[:n]
        return self.of(sample.whole.images[: rows.max(initial=-1) + 1])[rows]

    def views(self, images: NDArray[np.uint8], how: str = "strong") -> Features:
        """[N,VIEWS,d] of views of images uint8 [N,3,S,S], augmented as `DRAWS` says; equal on every call."""
        kind = f"views{VIEWS_VERSION}" if how == "strong" else f"{how}{VIEWS_VERSION}"
        return self._kept(kind, images, how).reshape(len(images), VIEWS, -1)

    def _kept(self, kind: str, images: NDArray[np.uint8], how: str = "") -> Features:
        file = self._file(kind, images)
        # Chunks whose hashes begin alike share a lock: its file stays, and there are thousands of chunks.
        shared = file.with_name(f"{file.name.split('-')[1][:2]}.lock")
        with lock(shared, wait=WAIT, what=f"features of {len(images)} images"):
            if not file.exists():
                wanted = augmented(images, how) if how else [images]
                found = np.concatenate([self.extractor(some) for some in wanted])
                write_atomic(file, lambda f: np.save(f, found, allow_pickle=False))
        return np.load(file, allow_pickle=False)

    def _file(self, kind: str, images: NDArray[np.uint8]) -> Path:
        content = digest(f"{images.shape}", images)
        return self.cache / "samples" / f"{kind}-{content}-{self.extractor.weights_sha}.npy"


def augmented(images: NDArray[np.uint8], how: str) -> Iterator[NDArray[np.uint8]]:
    """VIEWS views of each image uint8 [N,3,S,S], next to one another: uint8 [n*VIEWS,3,S,S] at a time."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, max(1, len(images)), CHUNK):
        some = images[start : start + CHUNK]
        drawn = DRAWS[how](len(some) * VIEWS, generator)
        out = np.empty((len(some) * VIEWS, *images.shape[1:]), np.uint8)
        for piece in pieces(some, VIEWS):
            views = slice(piece.start * VIEWS, piece.stop * VIEWS)
            x = torch.from_numpy(some[piece]).float().div(127.5).sub(1).repeat_interleave(VIEWS, 0)
            out[views] = augment(x, drawn[views]).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        yield out
