"""What the stages after selection do: generators of other folds, sample sets, classifier runs, choices.

Each finds on disk what was done before, and can be killed and run again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpc import ablation, config
from hpc.ablation import BEST, RANDOM, ArmTask, ClassifierPlan, arms
from hpc.inputs import Inputs
from hpc.leaderboard import best_row
from hpc.plan import Plan
from hpc.selection import vetoes
from skin_gan.ablation import filters
from skin_gan.ablation.arms import Arm, on_top
from skin_gan.ablation.balance import images_to_add
from skin_gan.ablation.classify import Task, run_arm
from skin_gan.ablation.discriminator import discriminator_logits
from skin_gan.ablation.frozen import Frozen
from skin_gan.ablation.measures import measures
from skin_gan.ablation.parts import Split, image_split, lesion_split
from skin_gan.ablation.predictions import Predictions
from skin_gan.ablation.samples import SampleSet, read_samples, subset
from skin_gan.board import write_run
from skin_gan.config import TrialSpec, spec_from
from skin_gan.errors import SkinGanError
from skin_gan.generate import generate, manifest
from skin_gan.portable import CARD, export, read_card, read_yaml
from skin_gan.run import COMPLETED, RunFolder, TrialFolder, read_json, write_json

Tell = Callable[..., None]
SEED = 0  # of sample sets: more images of one set are a longer beginning of the same sequence


class Ablation:
    """The ablation of one sweep; opens each thing once per process, on first use."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.run, self.e, self.a = plan, plan.run, plan.experiment, plan.experiment.ablate
        self.own, self.size = self.e.trial.model.family, self.e.trial.model.size
        self.inputs = Inputs(plan)

    @cached_property
    def frozen(self) -> Frozen:
        return Frozen(self.inputs.store, self.size, self.inputs.cache, self.inputs.extractor)

    # ---- generators -------------------------------------------------------------------------------------

    @cached_property
    def sweeps(self) -> dict[str, RunFolder]:
        """The sources that are sweeps, this one first; the others are images that somebody has made."""
        others = {name: RunFolder(Path(path)) for name, path in self.a.sources.items()}
        return {self.own: self.run} | {n: run for n, run in others.items() if run.settings.exists()}

    def home(self, source: str, fold: int) -> RunFolder:
        """Where the generators of a source for a fold are."""
        sweep = self.sweeps[source]
        own_fold = config.load(sweep.settings).fold
        return sweep if own_fold == fold else ablation.fold_folder(self.run, fold, source)

    def generators(self, source: str, fold: int) -> dict[str, Path]:
        """The folder of each class's generator. SkinGanError where one is missing."""
        if source == BEST:
            return {label: self.best_of(label, fold) for label in self.e.classes}
        found = {label: self.home(source, fold).best(label) for label in self.e.classes}
        if missing := [label for label, folder in found.items() if not (folder / CARD).exists()]:
            raise SkinGanError(
                f"{source} has no generator of {', '.join(missing)} for fold {fold} in "
                f"{self.home(source, fold).path}: see the failed jobs of its search, or leave the class out"
            )
        return found

    def best_of(self, label: str, fold: int) -> Path:
        """The accepted generator with the lowest KID of all sweeps; if there is none, the least bad."""
        folders = [self.generators(source, fold)[label] for source in self.sweeps]
        cards = {folder: read_card(folder / CARD) for folder in folders}
        return min(folders, key=lambda f: (not cards[f]["accepted"], cards[f]["metrics"]["kid"]))

    def retrain(self, label: str, tell: Tell) -> None:
        """Train the settings chosen for a class again, from scratch, on the lesions of the other folds."""
        todo = [(f, s) for f in self.a.folds for s in self.sweeps if self.home(s, f) != self.sweeps[s]]
        for done, (fold, source) in enumerate(todo):
            tell(done=done, total=len(todo))
            self.retrain_one(label, fold, source)

    def retrain_one(self, label: str, fold: int, source: str) -> None:
        from skin_gan.train import Session

        chosen = read_card(self.sweeps[source].best(label) / CARD)
        searched = config.load(self.sweeps[source].settings)
        origin = self.sweeps[source].trial(label, chosen["index"], chosen["trial_id"])
        spec: TrialSpec = replace(spec_from(read_yaml(origin.spec)), fold=fold)
        folder = self.home(source, fold).trial(label, spec.index, spec.id)
        rungs = searched.search.rungs
        if folder.state()["state"] != COMPLETED or folder.state()["kimg"] < rungs[-1]:
            split, judge = self.inputs.split(label, fold), self.inputs.judge(label, fold)
            session = Session(spec, folder, split, self.e.operations, searched.evaluate)
            try:
                for kimg in rungs:
                    session.advance(kimg, judge, target=rungs[-1])
                session.finish(COMPLETED)
            finally:
                session.close()
        row = best_row(folder)
        if row is None:
            raise SkinGanError(
                f"{folder.path} was never measured: its KID is undefined, see its metrics.jsonl"
            )
        reasons = vetoes(row, self.e.select)
        extra = {
            "sweep": searched.sweep,
            "trial": folder.path.name,
            "accepted": not reasons,
            "reasons": reasons,
        }
        export(folder, self.home(source, fold).best(label), extra)

    # ---- generated images -------------------------------------------------------------------------------

    def generate(self, fold: int, tell: Tell) -> None:
        """Write the images that the arms need, and what each filter keeps of them."""
        counts = self.training_counts(lesion_split(self.inputs.store, fold))
        made = [s for s in ablation.sources(self.a) if s == BEST or s in self.sweeps]
        todo = [(source, label) for source in made for label in self.e.classes]
        for done, (source, label) in enumerate(todo):
            tell(done=done, total=len(todo))
            n = ablation.wanted(self.a, source, counts, self.e.classes)[label]
            if n:
                self.write_samples(self.generators(source, fold)[label], fold, source, n)
        names = sorted({f for p in self.a.classifiers.values() for f in p.filters})
        if names:
            kept = {
                name: {label: self.filtered(name, label, fold) for label in self.e.classes} for name in names
            }
            write_json(ablation.filter_file(self.run, fold), kept)

    def write_samples(self, folder: Path, fold: int, source: str, n: int) -> None:
        """Generate into samples/, in place of another set that an earlier state of the sweep left there."""
        out = ablation.sample_folder(self.run, fold, source)
        card = read_card(folder / CARD)
        there = out / card["label"] / "manifest.yaml"
        if there.exists() and read_yaml(there) != manifest(card, n, SEED):
            shutil.rmtree(there.parent)
        generate(folder, out, n, SEED, self.e.allow_rejected)

    def training_counts(self, split: Split) -> dict[str, int]:
        dx = self.inputs.store.manifest["dx"].to_numpy(dtype=str)[split.parts == "train"]
        return {label: int((dx == label).sum()) for label in self.inputs.store.classes}

    def filtered(self, name: str, label: str, fold: int) -> dict[str, Any]:
        """What a filter keeps of the class's generated images, and a random choice of as many."""
        sample = self.samples(BEST, fold, [label]).get(label)
        if sample is None:
            return {"kept": [], "random": [], "share": None, "threshold": None}
        found = self.judge_samples(name, sample, label, fold)
        random = filters.random_like(found)
        return {"kept": np.flatnonzero(found.keep).tolist(), "random": np.flatnonzero(random.keep).tolist(),
                "share": found.share, "threshold": found.threshold}  # fmt: skip

    def judge_samples(self, name: str, sample: SampleSet, label: str, fold: int) -> filters.Filtered:
        ref = self.inputs.judge(label, fold).real
        images, real = sample.images, ref.val.images
        if name == "confidence":
            return filters.by_confidence(
                *(self.confidence(x, label, fold) for x in (self.frozen.of(images), ref.val.features))
            )
        if name == "distance":
            return filters.by_distance(self.frozen.of(images), ref)
        if name == "discriminator":
            trial = self.trial_of(self.best_of(label, fold))
            return filters.by_discriminator(*(discriminator_logits(trial, x) for x in (images, real)))
        if name == "copies":
            return filters.by_copies(images, self.frozen.of(images), ref)
        return {"frame": filters.by_frame, "ruler": filters.by_ruler}[name](images, real)

    def trial_of(self, generator: Path) -> TrialFolder:
        """The training that a generator's folder was exported from: RUN/best/CLASS came from RUN/trials."""
        card = read_card(generator / CARD)
        return RunFolder(generator.parents[1]).trial(card["label"], card["index"], card["trial_id"])

    def confidence(self, features: NDArray[np.floating], label: str, fold: int) -> NDArray[np.floating]:
        """[N] probability of the class, by a classifier of the fold's real training images."""
        classifier, classes = self.real_classifier(fold)
        return classifier.predict_proba(features)[:, classes.index(label)]

    def real_classifier(self, fold: int) -> tuple[Any, list[str]]:
        """Multinomial logistic regression on frozen features; classes count equally, so that rare ones do."""
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

    @cached_property
    def _classifiers(self) -> dict[int, Any]:
        return {}

    # ---- classifiers ------------------------------------------------------------------------------------

    def samples(self, source: str, fold: int, labels: list[str] | None = None) -> dict[str, SampleSet]:
        """The generated images of a source for a fold, by class."""
        if source != BEST and source not in self.sweeps:
            return read_samples(Path(self.a.sources[source]), self.size, labels, resize=True)
        folder = ablation.sample_folder(self.run, fold, source)
        there = [label for label in labels or self.e.classes if (folder / label).is_dir()]
        return read_samples(folder, self.size, there) if there else {}

    def train(self, task: ArmTask, tell: Tell) -> None:
        """All seeds of one arm in one fold."""
        plan = self.a.classifiers[task.classifier]
        self.train_arm(task, plan, arms(self.a, plan)[task.arm], tell)

    def train_arm(self, task: ArmTask, plan: ClassifierPlan, arm: Arm, tell: Tell) -> None:
        store = self.inputs.store
        split = image_split(store) if task.fold is None else lesion_split(store, task.fold)
        settings = ablation.classifier_settings(task.classifier, plan, self.size)
        shared = Task(store, split, settings, self.frozen if settings.network == "head" else None)
        arm, made = self.with_images(arm, split, self.e.fold if task.fold is None else task.fold)
        total = plan.seeds * settings.steps
        for seed in range(plan.seeds):
            folder = ablation.arm_folder(self.run, task, seed)
            found = run_arm(
                shared, arm, seed, made, ("test",) if task.fold is None else ("val", "test"),
                self.a.unverified, folder,
                progress=lambda step, seed=seed: tell(done=seed * settings.steps + step, total=total),
            )  # fmt: skip
            if "val" in found:
                record_run(folder, task, seed, found["val"])

    def with_images(self, arm: Arm, split: Split, fold: int) -> tuple[Arm, Mapping[str, SampleSet] | None]:
        """The arm with its number of images written out per class, and the generated images that it takes."""
        if arm.synthetic == "none" and not arm.duplicate:
            return arm, None
        counts = self.training_counts(split)
        add = images_to_add(counts, arm.balance)
        if arm.duplicate:
            return replace(arm, balance={label: add[label] for label in self.e.classes}), None
        made = {k: s for k, s in self.samples(arm.source, fold).items() if k in counts}
        if arm.filter:
            made = self.kept(made, arm.filter, fold)
            add = {label: min(add[label], len(s.images)) for label, s in made.items()}
        return replace(arm, balance={label: add[label] for label in made}), made

    def kept(self, made: Mapping[str, SampleSet], filter_: str, fold: int) -> dict[str, SampleSet]:
        """The images that a filter, or its random control, keeps."""
        verdicts = read_json(ablation.filter_file(self.run, fold)) or {}
        name, which = filter_.removeprefix(RANDOM), "random" if filter_.startswith(RANDOM) else "kept"
        if name not in verdicts:
            raise SkinGanError(
                f"the filter {name} was not applied to fold {fold}: see the log of its generate job"
            )
        return {
            label: subset(s, np.array(verdicts[name][label][which], dtype=int)) for label, s in made.items()
        }

    def combine(self, task: ArmTask, tell: Tell) -> None:
        """Fix arm, ratio and filter on validation images, and train the best on top of the strongest."""
        plan = self.a.classifiers[task.classifier]
        found = ablation.choose(self.validation(task.classifier, plan), plan)
        arm = self.combined(plan, found)
        chosen = {**found, "combined": arm.name if arm else None}
        write_json(ablation.choices_file(self.run, task.classifier), chosen)
        if arm:
            self.train_arm(replace(task, arm=arm.name), plan, arm, tell)

    def combined(self, plan: ClassifierPlan, found: Mapping[str, Any]) -> Arm | None:
        """`best` as chosen, on top of the strongest conventional arm; None where one of them is missing."""
        known = arms(self.a, plan)
        if BEST not in known or found["strongest"] in (None, "real"):
            return None
        best = known[found["filter"] or found["ratio"] or BEST]
        if found["ratio"]:
            best = replace(best, balance=known[found["ratio"]].balance)
        return on_top(best, known[found["strongest"]])

    def validation(self, classifier: str, plan: ClassifierPlan) -> dict[str, float]:
        """Balanced accuracy on validation images, 0..1: mean over folds and seeds, of each arm that is whole."""
        found = {}
        for name in arms(self.a, plan):
            files = [
                ablation.arm_folder(self.run, ArmTask(classifier, name, fold), seed) / "val.npz"
                for fold in self.a.folds
                for seed in range(plan.seeds)
            ]
            if all(file.exists() for file in files):
                found[name] = float(np.mean([balanced_accuracy(file) for file in files]))
        if "real" not in found:
            raise SkinGanError(
                f"the arm real of {classifier} has not finished: see its job's log, and launch again"
            )
        return found


def balanced_accuracy(file: Path) -> float:
    from skin_gan.ablation.predictions import load

    return measured(load(file))["balanced_accuracy"]


def measured(p: Predictions) -> dict[str, float]:
    """Every measure of one run, on its own images."""
    whole = np.ones((1, len(p.labels)))
    return {name: float(m(p.labels, p.probabilities, whole)[0]) for name, m in measures(p.classes).items()}


def record_run(folder: Path, task: ArmTask, seed: int, validation: Predictions) -> None:
    """The run's row in TensorBoard's table, by its validation images."""
    settings = {"classifier": task.classifier, "arm": task.arm, "fold": task.fold, "seed": seed}
    write_run(folder, settings, {f"val/{k}": v for k, v in measured(validation).items() if np.isfinite(v)})
