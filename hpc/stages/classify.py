"""Trains the classifiers of the ablation, and chooses each fold's combined arm on validation images."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from hpc.plan import ablation
from hpc.plan.ablation import ArmTask
from hpc.plan.sweep_plan import Plan
from hpc.settings.ablation import PLAIN, ClassifierPlan, arms
from hpc.stages.current_runs import Current
from hpc.stages.generate import SampleSets
from hpc.stages.inputs import Inputs
from hpc.state.records import Tell
from skin_gan.ablation.arm import Arm
from skin_gan.ablation.balance import wanted
from skin_gan.ablation.classify import Task, run_arm
from skin_gan.ablation.measures import deciding, measures
from skin_gan.ablation.outside import OUTSIDE
from skin_gan.ablation.parts import Split, image_split, lesion_split
from skin_gan.ablation.predictions import Predictions
from skin_gan.ablation.samples import SampleSet
from skin_gan.errors import SkinGanError
from skin_gan.training.board import write_run
from skin_gan.training.devices import choose_device


class Arms:
    """Trains the arms of every classifier and fold."""

    def __init__(self, plan: Plan, inputs: Inputs) -> None:
        self.run, self.e, self.a, self.inputs = plan.run, plan.experiment, plan.experiment.ablate, inputs
        self.size, self.samples, self.current = inputs.size, SampleSets(plan, inputs), Current(plan)

    def train(self, task: ArmTask, tell: Tell) -> None:
        """Train all seeds of one arm in one fold."""
        plan = self.a.classifiers[task.classifier]
        self.train_arm(task, plan, arms(self.a, plan)[task.arm], tell)

    def train_arm(self, task: ArmTask, plan: ClassifierPlan, arm: Arm, tell: Tell) -> None:
        """Train all seeds of a task whose arm may be a combined one."""
        store = self.inputs.store
        shares = ablation.image_shares(task.classifier)
        split = image_split(store, **shares) if task.fold is None else lesion_split(store, task.fold)
        settings = ablation.classifier_settings(task.classifier, plan, self.size)
        frozen = self.samples.frozen if settings.network == "head" else None
        device = choose_device(self.e.operations.device)
        parts = ablation.parts(self.a, task.fold)
        outside = self.inputs.outside if OUTSIDE in parts else None
        shared = Task(store, split, settings, frozen, device, outside)
        arm, made = self.with_images(arm, split, self.current.fold(task))
        total = plan.seeds * settings.steps
        for seed in range(plan.seeds):
            folder = ablation.arm_folder(self.run, task, seed)

            def progress(step: int, before: int = seed * settings.steps) -> None:
                tell(done=before + step, total=total)

            family = folder.parents[2]
            found = run_arm(shared, arm, seed, made, parts, self.a.unverified, folder, progress, family)
            record_run(folder, found)

    def with_images(self, arm: Arm, split: Split, fold: int) -> tuple[Arm, Mapping[str, SampleSet] | None]:
        """The arm with its `balance` as counts per class, and the generated images that it uses."""
        if arm.synthetic == "none" and not arm.duplicate:
            return arm, None
        counts = self.samples.training_counts(split)
        add = wanted(arm, counts)
        if arm.duplicate:
            return replace(arm, balance={label: add[label] for label in self.e.classes}), None
        made = {k: s for k, s in self.samples.read(arm.source, fold).items() if k in counts}
        self.samples.require(arm, made, add)
        if arm.filter:
            made = self.samples.kept(made, arm.filter, fold)
            add = {label: min(add[label], len(s.images)) for label, s in made.items()}
        return replace(arm, balance={label: add[label] for label in made}), made

    def combine(self, task: ArmTask, tell: Tell) -> None:
        """Choose a fold's arm, ratio and filter on its validation images, and train the combined arm.

        Other folds' validation images are not used: some of their lesions are this fold's test lesions.
        """
        assert task.fold is not None
        plan = self.a.classifiers[task.classifier]
        validation, runs = self.validation(task, plan)
        chosen = ablation.choose_by(validation, plan, self.a.choose_by)
        arm = ablation.combined(self.a, plan, chosen)
        chosen |= {"combined": arm.name if arm else None, "runs": sorted(runs)}
        ablation.write_choice(self.run, task.classifier, task.fold, chosen)
        if arm:
            self.train_arm(replace(task, arm=arm.name), plan, arm, tell)

    def validation(self, task: ArmTask, plan: ClassifierPlan) -> tuple[dict[str, dict[str, float]], set[str]]:
        """The measures that may decide, of each arm with all seeds on the fold's validation images, the mean
        over seeds; and the ids of the runs."""
        found: dict[str, dict[str, float]] = {}
        runs: set[str] = set()
        for name, arm in arms(self.a, plan).items():
            mine = replace(task, arm=name)
            try:
                read = [self.current.read(mine, arm, seed, "val") for seed in range(plan.seeds)]
            except SkinGanError as e:
                print(f"{name} cannot be chosen: {e}", file=sys.stderr)
                continue
            of_seeds = [deciding(p.labels, p.probabilities) for p in read]
            found[name] = {key: float(np.mean([one[key] for one in of_seeds])) for key in of_seeds[0]}
            runs |= {p.record["id"] for p in read}
        if PLAIN not in found:
            raise SkinGanError(
                f"the arm {PLAIN} of {task.classifier} has not finished in fold {task.fold}: see its job's "
                "log, and launch again"
            )
        return found, runs


def measured(p: Predictions) -> dict[str, float]:
    """Every measure of one run on its own images."""
    whole = np.ones((1, len(p.labels)))
    return {name: float(m(p.labels, p.probabilities, whole)[0]) for name, m in measures(p.classes).items()}


def record_run(folder: Path, found: Mapping[str, Predictions]) -> None:
    """Write the run to TensorBoard: all measures on validation and test images, and the loss curve."""
    metrics = {f"{name}, {part}": v for part, p in found.items() for name, v in measured(p).items()}
    write_run(folder, metrics, found["test"].record.get("loss", ()))
