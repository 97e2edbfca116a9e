"""Tells whether classifier runs are current: made with the present settings and generated images. No torch.

A launch may change arms, steps or sources of a sweep. Runs of earlier settings stay on disk until their arm
is trained again, and are never compared with current ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache, cached_property
from typing import Any

from hpc.plan import ablation
from hpc.plan.ablation import ArmTask
from hpc.plan.sample_sources import read_source, rows_kept
from hpc.plan.sweep_plan import ABLATE, COMBINE, Job, Plan
from hpc.settings.ablation import COMBINED
from hpc.state.completion import complete
from hpc.state.snapshot import Snapshot, of_jobs
from skin_gan.ablation.arm import Arm
from skin_gan.ablation.balance import wanted
from skin_gan.ablation.outside import OUTSIDE
from skin_gan.ablation.predictions import Predictions, load
from skin_gan.ablation.runs import current, run_of, weights_of
from skin_gan.ablation.samples import SampleSet, subset
from skin_gan.data.store import open_store
from skin_gan.errors import SkinGanError

EARLIER = "of earlier settings"


class Current:
    """Compares the records of runs with the settings; reads each set of generated images at most once."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.run, self.e = plan, plan.run, plan.experiment
        self.sets, self.fingerprint = cache(self._sets), cache(self._fingerprint)
        self.weights = cache(weights_of)

    @cached_property
    def snapshot(self) -> Snapshot:
        """The snapshot of the jobs of classifier runs, read on first use."""
        stages = (stage for stage in self.plan.stages if stage.name in (ABLATE, COMBINE))
        return of_jobs(self.plan, [job for stage in stages for job in stage.jobs])

    @cached_property
    def outside(self) -> str:
        """The fingerprint of the store in ablate.external."""
        return open_store(self.e.ablate.external).fingerprint

    def read(self, task: ArmTask, arm: Arm, seed: int, part: str) -> Predictions:
        """The predictions of a run. SkinGanError if they are missing, damaged, or `EARLIER`."""
        folder = ablation.arm_folder(self.run, task, seed)
        if not folder.exists():
            raise SkinGanError("not started")
        if not (folder / f"{part}.npz").exists():
            raise SkinGanError("not finished")
        found = load(folder / f"{part}.npz")
        if part == OUTSIDE and found.record.get("outside") != self.outside:
            raise SkinGanError(f"{EARLIER} (another set outside): launch again")
        changed = self.changed(task, arm, found.record) or self.other_images(task, arm, found.record)
        if not changed and not current(found.record):
            changed = ["an earlier version weighted generated images differently"]
        if changed:
            raise SkinGanError(f"{EARLIER} ({', '.join(changed)}): launch again")
        return found

    def changed(self, task: ArmTask, arm: Arm, record: Mapping[str, Any]) -> list[str]:
        """The settings that have changed since the run, each as a phrase."""
        plan = self.e.ablate.classifiers[task.classifier]
        settings = ablation.classifier_settings(task.classifier, plan, self.e.trial.model.size)
        run = run_of(record)  # with the defaults of settings that were added later
        before = {**asdict(run.classifier), **asdict(run.arm)}
        weights = self.weights(settings.pretrained)
        if weights and run.weights:  # compared by content: the file may have been moved or replaced
            before["pretrained"] = settings.pretrained if weights == run.weights else "another file"
        now = {**asdict(settings), **asdict(arm), "balance": before["balance"], "name": before["name"]}
        changed = [f"{key} is now {value}" for key, value in now.items() if before[key] != value]
        if isinstance(before["balance"], Mapping) and self.added(task, arm, record) != before["balance"]:
            changed.append(f"balance is now {arm.balance}")
        return changed

    def added(self, task: ArmTask, arm: Arm, record: Mapping[str, Any]) -> dict[str, int]:
        """The images that the arm adds now to each class to which the run has added any."""
        before: Mapping[str, int] = record["arm"]["balance"]
        if arm.synthetic == "alone":
            return dict(before)  # as many as there are photographs, which no setting changes
        counts = {k: n - (before.get(k, 0) if arm.duplicate else 0) for k, n in record["real"].items()}
        add = wanted(arm, counts)
        if arm.duplicate:
            return {label: add[label] for label in self.e.classes}
        external = arm.source in ablation.external_sources(self.e.ablate)
        labels = before if external else set(before) & set(self.e.classes)
        if not arm.filter:
            return {label: add[label] for label in labels}
        fold = self.fold(task)
        return {k: min(add[k], len(rows_kept(self.run, k, arm.filter, fold))) for k in labels}

    def other_images(self, task: ArmTask, arm: Arm, record: Mapping[str, Any]) -> list[str]:
        """A phrase on the classes whose generated images have changed, disappeared or been added; else [].

        A complete job has used the present images; otherwise the images' fingerprints are compared.
        """
        known = task.arm in ablation.arms(self.e.ablate, self.e.ablate.classifiers[task.classifier])
        job = Job(ABLATE, task.label) if known else Job(COMBINE, replace(task, arm=COMBINED).label)
        used, balance = record["samples"], record["arm"]["balance"]
        if not used or complete(self.plan, job, self.snapshot):
            return []
        source = (arm.source, arm.filter, self.fold(task))
        others = [k for k in used if self.fingerprint(*source, k, balance[k]) != used[k]]
        if arm.synthetic == "add":
            add = wanted(arm, record["real"])
            others += [
                k for k in add if add[k] and k not in balance and self.sets(arm.source, self.fold(task), k)
            ]
        return [f"other images of {', '.join(others)}"] if others else []

    def _fingerprint(self, source: str, filter_: str, fold: int, label: str, n: int) -> str | None:
        """The fingerprint of the first `n` images of a class that an arm would use; None without images."""
        sample = self.sets(source, fold, label)
        if sample is None:
            return None
        if filter_:
            sample = subset(sample, rows_kept(self.run, label, filter_, fold))
        return sample.fingerprint(n)

    def _sets(self, source: str, fold: int, label: str) -> SampleSet | None:
        try:
            return read_source(self.run, self.e, source, fold, [label]).get(label)
        except SkinGanError:  # the job that makes the images reports it
            return None

    def fold(self, task: ArmTask) -> int:
        """The fold whose generated images the task uses."""
        return self.e.ablate.folds[0] if task.fold is None else task.fold
