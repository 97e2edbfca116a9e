"""What evaluation needs of one class and fold: real images, their features, copy thresholds and floors.

Everything that is slow to compute is on disk under `cache`, replaced atomically and computed by one process
at a time; all of it can be removed at any moment:

    CACHE/<store fingerprint>-<size>-<weights>/
        df.npy                       float32 [N,d]: features of all images of the class, by image id
        copies-<split>-df.json       thresholds of the copy checks
        floors-<split>-df-256.json   real-vs-real values for 256 generated images (floors.py)
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from threadpoolctl import threadpool_limits

from skin_gan.data.store import ClassSplit, Part, Store, class_split
from skin_gan.errors import SkinGanError
from skin_gan.metrics import copies
from skin_gan.metrics.features import Extractor
from skin_gan.metrics.scores import Array, distances
from skin_gan.run import lock, read_json, write_atomic

VERSION = 1  # of the cached thresholds and floors: raise it when their method changes
CHUNK = 256  # images read from the store at a time
WAIT = 3600.0  # seconds to wait for another process that computes the same

Progress = Callable[[int, int], object]  # (images done, images in all)


@dataclass(frozen=True)
class RealSet:
    """Real images with their features."""

    images: np.ndarray  # uint8 [N,3,H,W]
    lesions: np.ndarray  # str [N]
    features: Array  # float32 [N,d]


@dataclass(frozen=True)
class Reference:
    """What generated images of one class are compared with. The test fold has no part in it."""

    label: str
    size: int
    fold: int
    unit: str  # what the split kept together: "lesion" or "image"
    fingerprint: str  # of data, split and fold
    extractor: str
    weights_sha: str
    train: RealSet
    val: RealSet
    training: copies.Training
    thresholds: copies.Thresholds
    scale: float  # of distances between different images: half the median one
    cache: Path  # folder of this store, size and extractor


def reference(store: Store, label: str, size: int, fold: int, cache: Path, extractor: Extractor) -> Reference:
    """The reference of class `label` at `size` pixels: computed once, then read from `cache` in under a
    second.

    The first time, features of all images of the class are computed; for a class with fewer than 200
    validation images those of all such classes, since they share the thresholds of the copy checks.
    """
    folder = _folder(store, size, cache, extractor)
    split = class_split(store, label, size, fold)
    train, val = _real_sets(store, split, folder, extractor)
    training = _training(train)
    file = cached_file(folder, "copies", split.fingerprint, label)

    def calibrate() -> dict[str, Any]:
        with one_thread():
            held_out = {label: training.distances(val.features, val.images)}
            if len(val.images) < copies.ENOUGH:
                held_out |= _other_small_classes(store, split, folder, extractor)
            return asdict(copies.thresholds(label, held_out))

    return Reference(
        label=label,
        size=size,
        fold=fold,
        unit=split.unit,
        fingerprint=split.fingerprint,
        extractor=extractor.name,
        weights_sha=extractor.weights_sha,
        train=train,
        val=val,
        training=training,
        thresholds=copies.Thresholds(**cached_json(file, calibrate)),
        scale=_scale(np.concatenate([train.features, val.features])),
        cache=folder,
    )


def warm(
    store: Store,
    size: int,
    cache: Path,
    extractor: Extractor,
    labels: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Compute the features of all images of `labels` (default: all classes), unless they are in `cache`.

    About 12 ms per image on one CPU thread. Stopped and begun again, it goes on with the next class.
    """
    folder = _folder(store, size, cache, extractor)
    wanted = store.classes if labels is None else labels
    total, done = sum(store.counts[label] for label in wanted), 0
    for label in wanted:
        start = done

        def report(n: int, start: int = start) -> None:
            if progress:
                progress(start + n, total)

        _class_features(store, label, size, folder, extractor, report)
        done += store.counts[label]
        report(store.counts[label])


def cached_file(folder: Path, kind: str, split: str, label: str, *more: object) -> Path:
    """Where something computed from one class and split is kept."""
    return folder / "-".join(map(str, (kind, split, _file_name(label), *more, f"v{VERSION}.json")))


def one_thread() -> threadpool_limits:
    """Context in which NumPy's BLAS keeps to one thread.

    Its matrices are small here, and threads that wait for a core in use by another trial spin: on two
    busy cores the C2ST took 8.8 s with two threads and 0.2 s with one.
    """
    return threadpool_limits(1, user_api="blas")


def cached_json(file: Path, compute: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The object in `file`, else what `compute` returns, kept there."""
    value = read_json(file)
    if value is None:
        with _sole_writer(file):
            value = read_json(file)
            if value is None:
                value = dict(compute())
                write_atomic(file, json.dumps(value, allow_nan=False))
    return value


def _training(train: RealSet) -> copies.Training:
    return copies.Training(train.features, train.images, train.lesions)


def _scale(features: Array) -> float:
    """Half the median distance between images: the Vendi score's width."""
    some = features[np.random.default_rng(0).permutation(len(features))[:CHUNK]]
    between = distances(some, some)
    return 0.5 * float(np.median(between[np.triu_indices(len(some), 1)]))


def _folder(store: Store, size: int, cache: Path, extractor: Extractor) -> Path:
    return Path(cache) / f"{store.fingerprint}-{size}-{extractor.weights_sha}"


def _file_name(label: str) -> str:
    return quote(label, safe="")


def _real_sets(
    store: Store, split: ClassSplit, folder: Path, extractor: Extractor
) -> tuple[RealSet, RealSet]:
    """Training and validation images with their features."""
    features = _class_features(store, split.label, split.size, folder, extractor)
    ids = np.sort(_rows(store, split.label)[0])

    def real_set(part: Part) -> RealSet:
        return RealSet(part.images, part.lesions, features[np.searchsorted(ids, part.image_ids)])

    return real_set(split.train), real_set(split.val)


def _rows(store: Store, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids and places in the store of the images of one class."""
    rows = np.flatnonzero((store.manifest["dx"] == label).to_numpy())
    return np.array(store.manifest["image_id"].iloc[rows].tolist(), dtype=np.str_), rows


def _class_features(
    store: Store,
    label: str,
    size: int,
    folder: Path,
    extractor: Extractor,
    progress: Callable[[int], object] | None = None,
) -> Array:
    """Features float32 [N,d] of all images of a class, in the order of their ids.

    Not in the store's order: stores of one fingerprint may differ in that.
    """
    file = folder / f"{_file_name(label)}.npy"
    shape = (store.counts[label], extractor.dimensions)
    features = _load(file, shape)
    if features is None:
        with _sole_writer(file):
            features = _load(file, shape)
            if features is None:
                features = _extract(store, label, size, extractor, progress)
                write_atomic(file, lambda f: np.save(f, features, allow_pickle=False))
    return features


def _load(file: Path, shape: tuple[int, int]) -> Array | None:
    """The cached features, or None where there are none of this shape: then they are computed again."""
    try:
        features = np.load(file, allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return features if features.shape == shape else None


def _extract(
    store: Store, label: str, size: int, extractor: Extractor, progress: Callable[[int], object] | None
) -> Array:
    images = store.images(size)
    ids, rows = _rows(store, label)
    rows = rows[np.argsort(ids)]
    out = np.empty((len(rows), extractor.dimensions), np.float32)
    for start in range(0, len(rows), CHUNK):
        batch = images[rows[start : start + CHUNK]].transpose(0, 3, 1, 2)
        out[start : start + len(batch)] = extractor(np.ascontiguousarray(batch))
        if progress:
            progress(start + len(batch))
    return out


def _other_small_classes(
    store: Store, split: ClassSplit, folder: Path, extractor: Extractor
) -> dict[str, copies.Distances]:
    """Validation-to-training distances within each other class that cannot have thresholds of its own."""
    found = {}
    for label in store.classes:
        if label == split.label:
            continue
        with contextlib.suppress(SkinGanError):  # a class too small to be split has nothing to add
            other = class_split(store, label, split.size, split.fold)
            if len(other.val.images) < copies.ENOUGH:
                train, val = _real_sets(store, other, folder, extractor)
                found[label] = _training(train).distances(val.features, val.images)
    return found


@contextlib.contextmanager
def _sole_writer(file: Path) -> Iterator[None]:
    """Keep other processes from computing the same file meanwhile; after an hour's wait compute it anyway."""
    with lock(file.with_suffix(".lock"), wait=WAIT):
        yield
