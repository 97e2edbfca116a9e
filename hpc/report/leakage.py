"""Writes report/leakage.csv: whether generated images repeat photographs of the test set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from hpc.report.sample_sets import Sampled
from hpc.report.tables import LEAKS, write_csv
from skin_gan.ablation.leakage import Images, leakage
from skin_gan.ablation.outside import OUTSIDE
from skin_gan.ablation.parts import labelled_part, lesion_split
from skin_gan.ablation.samples import SampleSet
from skin_gan.data.splits import N_FOLDS
from skin_gan.errors import SkinGanError
from skin_gan.metrics.cache import FeatureCache, one_thread

TRAIN = 1000  # training images of the class at most, from which the limit of "near" is learnt
Seen = Callable[[int], Images]  # training images of a fold


@dataclass(frozen=True)
class LeakRow:
    """One set of generated images against the test images of its class and fold."""

    fold: int
    source: str
    label: str
    images: int  # all images of the set, which are compared for identity
    judged: int  # the images that are also compared by features
    near: int  # near copies of test images among `judged`
    share: float | None  # near / judged, 0..1; None if the set could not be judged
    expected: float | None  # the share of near copies among training images, 0..1
    identical: int  # images identical to a test image, turned or mirrored
    p: float | None
    caught: bool
    why: str


def write_leaks(sampled: Sampled, folder: Path) -> list[LeakRow]:
    """Judge every set of every source and fold, and write leakage.csv."""
    seen = lru_cache(1)(partial(all_images, sampled, part="train"))  # sets are sorted by fold
    found = (leak_row(sampled, fold, source, label, seen) for fold, source, label in sampled.sets())
    rows = [row for row in found if row]
    rows += [
        outside_row(sampled, fold, label) for fold in outside_folds(sampled) for label in sampled.e.classes
    ]
    write_csv(folder / LEAKS, rows, LeakRow)
    return rows


def leak_row(sampled: Sampled, fold: int, source: str, label: str, seen: Seen) -> LeakRow | None:
    """The row of a set; None if it does not exist. For a set that cannot be judged the row has the reason."""
    found = sampled.read(fold, source, label)
    if found is None:
        return None
    try:
        if isinstance(found, SkinGanError):
            raise found
        return _judge(sampled, fold, source, label, found, seen)
    except SkinGanError as error:
        why = nameless(str(error), sampled.run.path, source, sampled.a.sources.get(source))
        return LeakRow(fold, source, label, 0, 0, 0, None, None, 0, None, False, f"not judged: {why}")


def outside_folds(sampled: Sampled) -> list[int]:
    """The folds whose photographs ablate.external is looked through for."""
    return [fold for fold in sampled.a.folds if fold < N_FOLDS] if sampled.inputs.outside else []


def outside_row(sampled: Sampled, fold: int, label: str) -> LeakRow:
    """The photographs outside of one class against those that a fold's classifiers were trained and tuned on.

    The fold's own test photographs, which are of other lesions, set the limit of near.
    """
    assert sampled.inputs.outside is not None
    store, part = sampled.inputs.store, sampled.inputs.outside.part
    images = part.images[part.labels == store.classes.index(label)]
    features = sampled.there.frozen.of(images)
    with one_thread():
        tuned, test = (real_images(sampled, fold, label, parts) for parts in (("train", "val"), "test"))
        found = leakage(images, features, tuned, test, all_images(sampled, fold, "test"))
    return LeakRow(
        fold, OUTSIDE, label, found.images, len(images), int(found.near.sum()), found.share, found.expected,
        found.identical, found.p, found.caught, found.why.replace("generated", "outside"),
    )  # fmt: skip


def nameless(message: str, run: Path, source: str, place: str | None) -> str:
    """The message without paths of this machine, since the table is published."""
    message = message.replace(f"{run}/", "")
    for path in (Path(place).resolve(), Path(place), place) if place else ():
        message = message.replace(str(path), f"the source {source}")
    return message


def _judge(sampled: Sampled, fold: int, source: str, label: str, sample: SampleSet, seen: Seen) -> LeakRow:
    """The row of a set that can be read."""
    rows, features = sampled.judged(sample)
    with one_thread():
        held_out, train = (real_images(sampled, fold, label, part) for part in ("test", "train"))
        found = leakage(sample.images, features, held_out, train, seen(fold), rows)
    return LeakRow(
        fold, source, label, found.images, len(rows), int(found.near.sum()), found.share, found.expected,
        found.identical, found.p, found.caught, found.why,
    )  # fmt: skip


def real_images(sampled: Sampled, fold: int, label: str, part: str | Sequence[str]) -> Images:
    """The photographs of a class in one part of a fold, or several, with cached features."""
    inputs = sampled.inputs
    found = labelled_part(inputs.store, lesion_split(inputs.store, fold), part, sampled.size, label)
    if len(found.labels) < 2:
        raise SkinGanError(f"{label} has {len(found.labels)} {part} images in fold {fold}")
    n = TRAIN if part == "train" else len(found.labels)
    features = features_of(sampled).of_images(label, found.image_ids[:n])
    return Images(found.images[:n], features, found.lesions[:n])


def all_images(sampled: Sampled, fold: int, part: str) -> Images:
    """The photographs of all classes in one part of a fold, with cached features."""
    store = sampled.inputs.store
    found = labelled_part(store, lesion_split(store, fold), part, sampled.size)
    features = np.empty((len(found.labels), sampled.inputs.extractor.dimensions), np.float32)
    for k, label in enumerate(store.classes):
        of_class = found.labels == k
        features[of_class] = features_of(sampled).of_images(label, found.image_ids[of_class])
    return Images(found.images, features, found.lesions)


def features_of(sampled: Sampled) -> FeatureCache:
    """The cache of photographs' features."""
    inputs = sampled.inputs
    return FeatureCache(inputs.store, sampled.size, inputs.cache, inputs.extractor)
