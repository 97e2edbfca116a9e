"""The generated images of the ablation for each fold, and which of them each filter keeps."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpc.plan import ablation
from hpc.plan.ablation import SampleTask
from hpc.plan.sample_sources import read_source, rows_kept
from hpc.plan.sweep_plan import Plan
from hpc.settings.ablation import BEST
from hpc.stages.folds import Generators
from hpc.stages.inputs import Inputs
from hpc.state.records import Tell
from skin_gan.ablation import filters
from skin_gan.ablation.arm import Arm
from skin_gan.ablation.arms import MADE, make_samples
from skin_gan.ablation.filters import discriminator_logits
from skin_gan.ablation.frozen import Frozen
from skin_gan.ablation.parts import Split, image_split, lesion_split
from skin_gan.ablation.samples import SampleSet, subset
from skin_gan.errors import SkinGanError
from skin_gan.folders import ARRAY
from skin_gan.generate import generate, manifest, write_set
from skin_gan.generator import CARD, read_card, read_yaml
from skin_gan.io import write_json

SEED = 0  # of sample sets: a larger set begins with the images of a smaller one


class SampleSets:
    """Makes, filters and reads generated images by source, fold and class."""

    def __init__(self, plan: Plan, inputs: Inputs) -> None:
        self.run, self.e, self.a, self.inputs = plan.run, plan.experiment, plan.experiment.ablate, inputs
        self.size = inputs.size
        self.generators = Generators(plan, inputs)
        self._classifiers: dict[int, Any] = {}

    @cached_property
    def frozen(self) -> Frozen:
        return Frozen(self.inputs.store, self.size, self.inputs.cache, self.inputs.extractor)

    def made_here(self, source: str) -> bool:
        """Whether the stage generate makes the source's images; otherwise they are from elsewhere."""
        return source not in ablation.external_sources(self.a)

    def read(self, source: str, fold: int, labels: list[str] | None = None) -> dict[str, SampleSet]:
        """The generated images of a source for a fold, by class."""
        return read_source(self.run, self.e, source, fold, labels)

    def make(self, task: SampleTask, tell: Tell) -> None:
        """Write the images of a class that the arms need, and the result of each filter."""
        label, fold = task.lesion_class, task.fold
        errors, made = [], []
        names = sorted({f for p in self.a.classifiers.values() for f in p.filters})
        here = [source for source in ablation.sources(self.a) if self.made_here(source)]
        total = len(here) + len(names)
        for done, source in enumerate(here):
            tell(done=done, total=total)
            try:
                if n := self.needed(source, label, fold):
                    self.write(source, label, fold, n)
                    made.append(source)
            except SkinGanError as e:  # the other sources go on
                errors.append(str(e))
        tell(sets=made)
        verdicts = {}
        for done, name in enumerate(names, len(here)):
            tell(done=done, total=total)
            verdicts[name] = self.filtered(name, label, fold)
        write_json(ablation.filter_file(self.run, fold, label), verdicts)
        if errors:
            raise SkinGanError("; ".join(errors))

    def needed(self, source: str, label: str, fold: int) -> int:
        """The images of a class that the arms need of a source, in this fold and in the split by image."""
        store = self.inputs.store
        counts = self.training_counts(lesion_split(store, fold))
        by_lesion = ablation.images_needed(self.a, source, counts, label)
        if not any(plan.by_image for plan in self.a.classifiers.values()):
            return by_lesion
        counts = self.training_counts(image_split(store))
        return max(by_lesion, ablation.images_needed(self.a, source, counts, label, None))

    def write(self, source: str, label: str, fold: int, n: int) -> None:
        """Write a set to samples/, replacing one of earlier settings."""
        out = ablation.sample_folder(self.run, fold, source)
        if source in MADE:
            return self.write_made(source, label, fold, n, out / label)
        folder = self.generators.of(source, fold)[label]
        png = self.e.operations.png
        clear(out / label, manifest(read_card(folder / CARD), n, SEED), png)
        generate(folder, out, n, SEED, self.e.allow_rejected, png=png)

    def write_made(self, source: str, label: str, fold: int, n: int, target: Path) -> None:
        """Write the images that an arm's own file makes, as a set like a generator's."""
        split = lesion_split(self.inputs.store, fold)
        sample = make_samples(source, self.inputs.store, split, self.size, n, SEED, [label])[label]
        record = {
            "label": label, "fold": fold, "fold_fingerprint": sample.fold_fingerprint, **sample.origin,
            "seed": SEED, "count": n,
        }  # fmt: skip
        clear(target, record, self.e.operations.png)
        write_set(target, record, sample.images.transpose(0, 2, 3, 1), self.e.operations.png)

    def training_counts(self, split: Split) -> dict[str, int]:
        """The number of training images of each class."""
        dx = self.inputs.store.manifest["dx"].to_numpy(dtype=str)[split.parts == "train"]
        return {label: int((dx == label).sum()) for label in self.inputs.store.classes}

    def filtered(self, name: str, label: str, fold: int) -> dict[str, Any]:
        """The indices of the images that a filter keeps, and a random choice of as many."""
        sample = self.read(BEST, fold, [label]).get(label)
        if sample is None:
            return {"kept": [], "random": [], "share": None, "threshold": None}
        found = self.apply(name, sample, label, fold)
        random = filters.random_like(found)
        return {"kept": np.flatnonzero(found.keep).tolist(), "random": np.flatnonzero(random.keep).tolist(),
                "share": found.share, "threshold": found.threshold}  # fmt: skip

    def apply(self, name: str, sample: SampleSet, label: str, fold: int) -> filters.Filtered:
        """Apply the filter of this name to a class's generated images."""
        ref = self.inputs.judge(label, fold).real
        images, real = sample.images, ref.val.images
        if name == "confidence":
            p = self.confidence(self.frozen.of(images), label, fold)
            return filters.by_confidence(p, self.confidence(ref.val.features, label, fold))
        if name == "distance":
            return filters.by_distance(self.frozen.of(images), ref)
        if name == "discriminator":
            trial = self.generators.training(self.generators.best_of(label, fold))
            logits = discriminator_logits(trial, images)
            return filters.by_discriminator(logits, discriminator_logits(trial, real))
        if name == "copies":
            return filters.by_copies(images, self.frozen.of(images), ref)
        return {"frame": filters.by_frame, "ruler": filters.by_ruler}[name](images, real)

    def confidence(self, features: NDArray[np.floating], label: str, fold: int) -> NDArray[np.floating]:
        """[N] probability of the class, from `real_classifier`."""
        classifier, classes = self.real_classifier(fold)
        return classifier.predict_proba(features)[:, classes.index(label)]

    def real_classifier(self, fold: int) -> tuple[Any, list[str]]:
        """A logistic regression on the fold's frozen training features with balanced classes; its classes."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if fold not in self._classifiers:
            train = lesion_split(self.inputs.store, fold).parts == "train"
            dx = self.inputs.store.manifest["dx"].to_numpy(dtype=str)[train]
            model = make_pipeline(
                StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500)
            )
            self._classifiers[fold] = model.fit(self.frozen.all_real[train], dx)
        model = self._classifiers[fold]
        return model, model.classes_.tolist()

    def require(self, arm: Arm, made: Mapping[str, SampleSet], wanted: Mapping[str, int]) -> None:
        """SkinGanError unless every class that the arm adds to has images; external images may lack some."""
        missing = [label for label in self.e.classes if wanted[label] and label not in made]
        if not made or (self.made_here(arm.source) and missing):
            raise SkinGanError(
                f"the arm {arm.name} lacks generated images of {', '.join(missing or self.e.classes)}: see "
                "the logs of the stage generate; a generator that was not accepted needs allow_rejected=true"
            )

    def kept(self, made: Mapping[str, SampleSet], filter_: str, fold: int) -> dict[str, SampleSet]:
        """The images that a filter, or its random control, keeps."""
        rows = {label: rows_kept(self.run, label, filter_, fold) for label in made}
        return {label: subset(sample, rows[label]) for label, sample in made.items()}


def clear(target: Path, record: Mapping[str, Any], png: bool) -> None:
    """Remove the set in `target` unless `record` is its manifest, and PNG files are there if `png` asks.

    PNG files of an earlier version stay in place of an array.
    """
    path = target / "manifest.yaml"
    if path.exists() and (read_yaml(path) != record or (png and (target / ARRAY).exists())):
        shutil.rmtree(target)
