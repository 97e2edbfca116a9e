"""The generated images of a sweep with their features, for what the report shows of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from hpc import ablation
from hpc.ablation import BEST
from hpc.ablation.samplesets import SampleSets
from hpc.inputs import Inputs
from hpc.plan import Plan
from skin_gan.ablation.arms import CONTROLS
from skin_gan.ablation.samples import SampleSet
from skin_gan.errors import SkinGanError

JUDGED = 256  # images of a set whose features are looked at: those of a head are kept in chunks of as many


class Sampled:
    """Reads each set once; one that is damaged is a finding of the report and not its end."""

    def __init__(self, plan: Plan) -> None:
        self.run, self.e, self.a = plan.run, plan.experiment, plan.experiment.ablate
        self.inputs = Inputs(plan)
        self.size, self.there = self.inputs.size, SampleSets(plan, self.inputs)
        self.sources = ablation.sources(self.a)
        self.read = cache(self._read)

    @property
    def main(self) -> str:
        """The source that the report shows."""
        return BEST if BEST in self.sources else next((s for s in self.sources if s not in CONTROLS), "")

    def sets(self) -> Iterator[tuple[int, str, str]]:
        """Fold, source and class of all sets that there may be."""
        for fold in self.a.folds:
            for source in self.sources:
                for label in self.e.classes:
                    yield fold, source, label

    def _read(self, fold: int, source: str, label: str) -> SampleSet | SkinGanError | None:
        """The set, what is wrong with it, or None where there is none."""
        try:
            return self.there.read(source, fold, [label]).get(label)
        except SkinGanError as error:
            return error

    def features(self, sample: SampleSet) -> tuple[Any, Any]:
        """The first `JUDGED` images, uint8 [N,3,S,S], and their features [N,d]."""
        images = sample.images[:JUDGED]
        return images, self.there.frozen.of(images)
