"""Reads the generated images of a sweep with their features for the report, and writes their sheets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hpc.plan import ablation
from hpc.plan.sweep_plan import Plan
from hpc.report.finished import classifiers, finished
from hpc.report.page import SHEETS
from hpc.settings.ablation import BEST
from hpc.stages.current_runs import Current
from hpc.stages.generate import SampleSets
from hpc.stages.inputs import Inputs
from skin_gan.ablation.arms import CONTROLS
from skin_gan.ablation.samples import SampleSet
from skin_gan.errors import SkinGanError
from skin_gan.io import write_json
from skin_gan.metrics import copies
from skin_gan.metrics.arrays import distances
from skin_gan.metrics.cache import one_thread
from skin_gan.training import grids

JUDGED = 256  # images of a set whose features are computed for the report: one file of the cache


class Sampled:
    """Reads each set once. A damaged set is reported, not raised."""

    def __init__(self, plan: Plan) -> None:
        self.run, self.e, self.a = plan.run, plan.experiment, plan.experiment.ablate
        self.inputs = Inputs(plan)
        self.size, self.there = self.inputs.size, SampleSets(plan, self.inputs)
        self.sources = ablation.sources(self.a)
        self.used = used(plan)
        self.read, self.whole = cache(self._read), cache(self._whole)

    @property
    def main(self) -> str:
        """The source whose images the report shows."""
        return BEST if BEST in self.sources else next((s for s in self.sources if s not in CONTROLS), "")

    def sets(self) -> Iterator[tuple[int, str, str]]:
        """Fold, source and class of all sets that the settings name or finished runs have used."""
        asked = {(f, s, label) for f in self.a.folds for s in self.sources for label in self.e.classes}
        yield from sorted(asked | self.used)

    def _read(self, fold: int, source: str, label: str) -> SampleSet | SkinGanError | None:
        """The set, the error of a damaged one, or None if there is none."""
        gone = SkinGanError(f"runs have used the images of {source}, which no longer exist")
        if not self.there.made_here(source) and source not in self.a.sources:
            return gone
        try:
            found = self.whole(fold, source).get(label) or self.there.read(source, fold, [label]).get(label)
        except SkinGanError as error:
            return error
        return gone if found is None and (fold, source, label) in self.used else found

    def _whole(self, fold: int, source: str) -> dict[str, SampleSet]:
        """The sets of all classes of a source; {} if one is damaged, so that each is read by itself."""
        try:
            return self.there.read(source, fold)
        except SkinGanError:
            return {}

    def features(self, sample: SampleSet) -> tuple[Any, Any]:
        """The first `JUDGED` images, uint8 [N,3,S,S], and their features [N,d]."""
        images = sample.images[:JUDGED]
        return images, self.there.frozen.of(images)

    def judged(self, sample: SampleSet) -> tuple[Any, Any]:
        """Indices [M] of the images to judge by their features, and the features [M,d].

        All images if nearly all features are cached; else `JUDGED` of them, by a fixed random choice.
        """
        images, frozen = sample.images, self.there.frozen
        if frozen.unknown(images) <= JUDGED:
            return np.arange(len(images)), frozen.of(images)
        rows = np.sort(np.random.default_rng(0).choice(len(images), JUDGED, replace=False))
        return rows, frozen.of(images[rows])


def used(plan: Plan) -> set[tuple[int, str, str]]:
    """Fold, source and class of the generated images that finished runs by lesion have used."""
    found, current = set(), Current(plan)
    for classifier in classifiers(plan.experiment):
        there = finished(current, classifier)
        for split in (*there.folds, *there.sources):
            runs = (p for by in there.runs.values() for p in by.get(split, {}).values())
            for record in (p.record for p in runs):
                given = (label for label, n in record["synthetic"].items() if n)
                fold = int(split.removeprefix("fold-"))
                found |= {(fold, record["arm"]["source"], label) for label in given}
    return found


COLUMNS, ROWS = 8, 4  # of the sheet of generated images
PAIRS = 16  # pairs of nearest neighbours on a sheet, COLUMNS to a row


def write_sheets(sampled: Sampled, folder: Path) -> list[dict[str, Any]]:
    """Write the sheets of each class that has generated images of the main source in the search's fold."""
    found = []
    for label in sampled.e.classes:
        sample = sampled.read(sampled.e.fold, sampled.main, label) if sampled.main else None
        if isinstance(sample, SampleSet):
            found.append(write_class(sampled, label, sample, folder))
    write_json(folder / SHEETS, {"sheets": found})
    return found


def write_class(sampled: Sampled, label: str, sample: SampleSet, folder: Path) -> dict[str, Any]:
    """Write both sheets of a class; returns its entry in sheets.json."""
    generated, nearest = f"sheets/{label}-generated.png", f"sheets/{label}-nearest.png"
    grids.save(folder / generated, grids.sheet(sample.images[: COLUMNS * ROWS], COLUMNS))
    images, features = sampled.features(sample)
    real, ids = sampled.inputs.judge(label).real, sampled.inputs.split(label).train.image_ids
    with one_thread():
        away = distances(features, real.train.features)
        copied = copies.judge(real.training.distances(features, images), real.thresholds)
    columns = min(COLUMNS, len(images))
    rows = away.min(1).argsort()[: min(PAIRS, len(images) // columns * columns)]
    partners = away[rows].argmin(1)
    both = _paired(images[rows], real.train.images[partners], columns)
    grids.save(folder / nearest, grids.sheet(both, columns))
    pairs = [
        {"generated": str(sample.names[i]), "photograph": str(ids[j]),
         "distance": round(float(away[i, j]), 3), "copy": bool(copied[i])}
        for i, j in zip(rows, partners, strict=True)
    ]  # fmt: skip
    return {"class": label, "source": sampled.main, "fold": sampled.e.fold, "judged": len(images),
            "generated": generated, "nearest": nearest, "pairs": pairs}  # fmt: skip


def _paired(above: np.ndarray, below: np.ndarray, columns: int) -> np.ndarray:
    """Both [N,3,S,S], N a multiple of `columns`: each row of `above` followed by its row of `below`."""
    rows = []
    for start in range(0, len(above), columns):
        rows += [above[start : start + columns], below[start : start + columns]]
    return np.concatenate(rows)
