"""report/leakage.csv: do generated images repeat the photographs that classifiers are tested on?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpc.report.sampled import Sampled
from hpc.report.tables import LEAKS, write_csv
from skin_gan.ablation.leakage import Images, leakage
from skin_gan.ablation.parts import labelled_part, lesion_split
from skin_gan.ablation.samples import SampleSet
from skin_gan.data.store import Part
from skin_gan.errors import SkinGanError
from skin_gan.metrics.cache import FeatureCache, one_thread

TRAIN = 1000  # training images at most, from which is learnt what is near


@dataclass(frozen=True)
class LeakRow:
    """One set of generated images against the test images of its class and fold."""

    fold: int
    source: str
    label: str
    images: int
    near: int  # judged near copies of test images
    share: float | None  # of `images`, 0..1; None where the set could not be judged
    expected: float | None  # the share among training images, 0..1
    identical: int
    p: float | None
    caught: bool
    why: str


def write_leaks(sampled: Sampled, folder: Path) -> list[LeakRow]:
    """Judge every set of every source and fold, and write leakage.csv."""
    rows = [row for fold, source, label in sampled.sets() if (row := judge(sampled, fold, source, label))]
    write_csv(folder / LEAKS, rows, LeakRow)
    return rows


def judge(sampled: Sampled, fold: int, source: str, label: str) -> LeakRow | None:
    """None where there is no such set; one that cannot be judged says why."""
    found = sampled.read(fold, source, label)
    if found is None:
        return None
    try:
        if isinstance(found, SkinGanError):
            raise found
        return _judge(sampled, fold, source, label, found)
    except SkinGanError as error:
        why = str(error).replace(f"{sampled.run.path}/", "")
        return LeakRow(fold, source, label, 0, 0, None, None, 0, None, False, f"not judged: {why}")


def _judge(sampled: Sampled, fold: int, source: str, label: str, sample: SampleSet) -> LeakRow:
    images, features = sampled.features(sample)
    with one_thread():
        held_out, train = (real_images(sampled, fold, label, part) for part in ("test", "train"))
        found = leakage(images, features, held_out, train)
    return LeakRow(
        fold, source, label, len(images), int(found.near.sum()), found.share, found.expected, found.identical,
        found.p, found.caught, found.why,
    )  # fmt: skip


def real_images(sampled: Sampled, fold: int, label: str, part: str) -> Images:
    """The photographs of a class in one part of a fold, with their features from the cache."""
    inputs = sampled.inputs
    found = labelled_part(inputs.store, lesion_split(inputs.store, fold), part, sampled.size, label)
    if len(found.labels) < 2:
        raise SkinGanError(f"{label} has {len(found.labels)} {part} images in fold {fold}")
    n = TRAIN if part == "train" else len(found.labels)
    chosen = Part(found.images[:n], found.lesions[:n], found.image_ids[:n])
    cache = FeatureCache(inputs.store, sampled.size, inputs.cache, inputs.extractor)
    return Images(chosen.images, cache.of_part(label, chosen), chosen.lesions)
