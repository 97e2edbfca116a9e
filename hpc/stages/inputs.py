"""The inputs that jobs share: the sweep's store, its cached features, the judge of each class."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc.plan.ablation import needs_all_features
from hpc.plan.settle import NONE, SECOND
from hpc.plan.sweep_plan import Plan
from hpc.stages.scratch import STORE
from skin_gan.ablation.outside import Outside, open_outside, outside_part
from skin_gan.config import TrialSpec
from skin_gan.data.resolve import resolve
from skin_gan.data.store import ClassSplit, Store, all_split, class_split
from skin_gan.errors import SkinGanError
from skin_gan.metrics.evaluate import evaluate
from skin_gan.metrics.features import Extractor, check_independent, extractor, second_extractor
from skin_gan.metrics.reference import Progress, Reference, reference, warm
from skin_gan.metrics.scores.kid import kid_by_lesion
from skin_gan.pretrained import weights_file
from skin_gan.training.devices import choose_device


class Inputs:
    """Opens each thing once per process, on first use."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.fold = plan, plan.experiment.fold
        self.size = plan.experiment.trial.model.size
        self.cache = Path(plan.experiment.results) / "cache"

    @cached_property
    def store(self) -> Store:
        """The store that the sweep was planned on. SkinGanError if its content has changed."""
        e = self.plan.experiment
        store = resolve(os.environ.get(STORE, e.data), [self.size], Path(e.results))
        if store.fingerprint != self.plan.data:
            raise SkinGanError(
                f"the data at {store.path} changed since this sweep was launched: its fingerprint was "
                f"{self.plan.data} and is {store.fingerprint}; restore it, or launch a new sweep on it"
            )
        return store

    @cached_property
    def outside(self) -> Outside | None:
        """The photographs of ablate.external; None without it."""
        path = self.plan.experiment.ablate.external
        if not path:
            return None
        there = open_outside(path, self.store, self.size)
        return Outside(there.fingerprint, outside_part(there, self.store, self.size))

    @cached_property
    def extractor(self) -> Extractor:
        operations = self.plan.experiment.operations
        return extractor(choose_device(operations.device), operations.threads)

    @cached_property
    def second(self) -> Extractor | None:
        """The second network that measures, if the sweep has one."""
        if (name := self.plan.experiment.evaluate.second) == NONE:
            return None
        if name == SECOND:
            weights_file(name)  # SkinGanError if they are missing here: rows would lack columns
        operations = self.plan.experiment.operations
        return second_extractor(choose_device(operations.device), operations.threads)

    def split(self, label: str, fold: int | None = None) -> ClassSplit:
        """The class's images for training and validation, by default in the fold of the search."""
        return class_split(self.store, label, self.size, self.fold if fold is None else fold)

    def all_classes(self, fold: int) -> ClassSplit:
        """The images of all classes together for training and validation."""
        return all_split(self.store, self.size, fold)

    def warm(self, progress: Progress) -> None:
        """Fill the feature cache with all features that later stages read, so that jobs need not wait."""
        e = self.plan.experiment
        labels = None if needs_all_features(e.ablate) else e.classes
        warm(self.store, self.size, self.cache, self.extractor, labels, progress, self.second)

    def judge(
        self,
        label: str,
        fold: int | None = None,
        spec: TrialSpec | None = None,
        half: int | None = None,
    ) -> Judge:
        """The judge of the class's generated images, by default in the fold of the search.

        `half`: of the validation lesions; None: all of them. SkinGanError if a network that measures also
        trains the discriminator of `spec`, by default of any trial of the search.
        """
        for trial in [spec] if spec else [trial for trial, _ in self.plan.trials(label)]:
            check_independent(trial.settings.model, self.extractor, self.second)
        fold = self.fold if fold is None else fold
        real = reference(self.store, label, self.size, fold, self.cache, self.extractor, self.second)
        real = real if half is None else real.half(half)
        return Judge(real, self.extractor, self.second)


class Judge:
    """Measures generated images uint8 [N,3,H,W] of one class against its real ones."""

    def __init__(self, real: Reference, network: Extractor, second: Extractor | None) -> None:
        self.real, self.network, self.second = real, network, second

    def __call__(self, generated: Any) -> dict[str, Any]:
        return evaluate(generated, self.real, self.network, second=self.second)

    def by_lesion(self, generated: Any) -> tuple[Any, Any]:
        """KID x1000 from each validation lesion alone [L], in the order of their names, and their shares."""
        val = self.real.val
        return kid_by_lesion(self.network(generated), val.features, val.lesions)
