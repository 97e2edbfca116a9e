"""The generated images of a sweep with their features, for what the report shows of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from hpc.plan import ablation
from hpc.plan.sweep_plan import Plan
from hpc.report.finished import classifiers, finished
from hpc.settings.ablation import BEST
from hpc.stages.current_runs import Current
from hpc.stages.generate import SampleSets
from hpc.stages.inputs import Inputs
from skin_gan.ablation.arms import CONTROLS
from skin_gan.ablation.samples import SampleSet
from skin_gan.errors import SkinGanError

JUDGED = 256  # images of a set whose features are computed for the report; as many are kept in one file


class Sampled:
    """Reads each set once; one that is damaged is a finding of the report and not its end."""

    def __init__(self, plan: Plan) -> None:
        self.run, self.e, self.a = plan.run, plan.experiment, plan.experiment.ablate
        self.inputs = Inputs(plan)
        self.size, self.there = self.inputs.size, SampleSets(plan, self.inputs)
        self.sources = ablation.sources(self.a)
        self.used = used(plan)
        self.read, self.whole = cache(self._read), cache(self._whole)

    @property
    def main(self) -> str:
        """The source that the report shows."""
        return BEST if BEST in self.sources else next((s for s in self.sources if s not in CONTROLS), "")

    def sets(self) -> Iterator[tuple[int, str, str]]:
        """Fold, source and class of all sets that there may be, by the settings or by finished runs."""
        asked = {(f, s, label) for f in self.a.folds for s in self.sources for label in self.e.classes}
        yield from sorted(asked | self.used)

    def _read(self, fold: int, source: str, label: str) -> SampleSet | SkinGanError | None:
        """The set, what is wrong with it, or None where there is none."""
        gone = SkinGanError(f"runs have used the images of {source}, and they are not there any more")
        if not self.there.made_here(source) and source not in self.a.sources:
            return gone
        try:
            found = self.whole(fold, source).get(label) or self.there.read(source, fold, [label]).get(label)
        except SkinGanError as error:
            return error
        return gone if found is None and (fold, source, label) in self.used else found

    def _whole(self, fold: int, source: str) -> dict[str, SampleSet]:
        """All classes in one look at the folder; none if one of them is damaged, so that each is asked."""
        try:
            return self.there.read(source, fold)
        except SkinGanError:
            return {}

    def features(self, sample: SampleSet) -> tuple[Any, Any]:
        """The first `JUDGED` images, uint8 [N,3,S,S], and their features [N,d]."""
        images = sample.images[:JUDGED]
        return images, self.there.frozen.of(images)

    def judged(self, sample: SampleSet) -> tuple[Any, Any]:
        """Places [M] of the images to be judged by their features, and these [M,d].

        All, if a head has left nearly all features; else `JUDGED` at random, always the same.
        """
        images, frozen = sample.images, self.there.frozen
        if frozen.unknown(images) <= JUDGED:
            return np.arange(len(images)), frozen.of(images)
        rows = np.sort(np.random.default_rng(0).choice(len(images), JUDGED, replace=False))
        return rows, frozen.of(images[rows])


def used(plan: Plan) -> set[tuple[int, str, str]]:
    """Fold, source and class of the generated images that finished runs by lesion were trained on."""
    found, current = set(), Current(plan)
    for classifier in classifiers(plan.experiment):
        there = finished(current, classifier)
        for split in there.folds:
            runs = (p for by in there.runs.values() for p in by.get(split, {}).values())
            for record in (p.record for p in runs):
                given = (label for label, n in record["synthetic"].items() if n)
                fold = int(split.removeprefix("fold-"))
                found |= {(fold, record["arm"]["source"], label) for label in given}
    return found
