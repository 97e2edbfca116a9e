"""Tells whether the output files of a job exist. No torch."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpc.plan import ablation
from hpc.plan.precision import is_settled
from hpc.plan.sweep_plan import (
    ABLATE,
    COMBINE,
    CONFIRM,
    FINAL,
    GENERATE,
    PREPARE,
    PRETRAIN,
    REPORT,
    SELECT,
    Job,
    Plan,
    class_of,
    confirm_run,
    fold_of,
)
from hpc.state.generators import finished
from skin_gan.errors import SkinGanError
from skin_gan.folders import DIVERGED, TrialFolder

BY_OUTPUT = (PRETRAIN, FINAL)  # stages whose jobs are complete if their outputs exist, whatever their records


def outputs_exist(plan: Plan, job: Job, record: Mapping[str, Any]) -> bool:
    """Whether the job's output files exist and are complete."""
    run, a = plan.run, plan.experiment.ablate
    if job.stage == PREPARE:
        return is_settled(run, plan.experiment)
    if job.stage == PRETRAIN:
        return plan.pretraining(fold_of(job)).networks(run).exists()
    if job.stage == CONFIRM:
        folders = [TrialFolder(confirm_run(run).trials / class_of(job.name) / name)
                   for name in record.get("trainings", [])]  # fmt: skip
        return all(f.confirmed.exists() or f.state()["state"] == DIVERGED for f in folders)
    if job.stage == SELECT:
        return run.leaderboard.exists()
    if job.stage == FINAL:
        return finished(plan, job.label)
    if job.stage == REPORT:
        return (run.path / "report" / "index.html").exists()
    if job.stage == GENERATE:
        task = next(t for t in ablation.sample_tasks(a, plan.experiment.classes) if t.label == job.label)
        sets = (ablation.sample_folder(run, task.fold, source) for source in record.get("sets", []))
        return all((folder / task.lesion_class / "manifest.yaml").exists() for folder in sets)
    if job.stage in (ABLATE, COMBINE):
        return _predicted(plan, job)
    return True


def _predicted(plan: Plan, job: Job) -> bool:
    """Whether every classifier run of the job has predictions; of a combined arm they must be current."""
    run, a = plan.run, plan.experiment.ablate
    tasks = ablation.arm_tasks(a) if job.stage == ABLATE else ablation.combined_tasks(a)
    task = next(t for t in tasks if t.label == job.label)
    if job.stage == COMBINE:
        try:
            chosen = ablation.choices(run, task.classifier, a.folds).get(task.fold or 0)
        except SkinGanError:  # damaged, or of an earlier version: it is written again
            chosen = None
        if chosen is None:
            return False
        if not chosen["combined"]:
            return True
        task = replace(task, arm=chosen["combined"])
    folders = [ablation.arm_folder(run, task, seed) for seed in range(a.classifiers[task.classifier].seeds)]
    parts = ablation.parts(a, task.fold)
    if not all(zipfile.is_zipfile(folder / f"{part}.npz") for folder in folders for part in parts):
        return False
    return job.stage == ABLATE or all(_is_current(folder / "test.npz") for folder in folders)


def _is_current(predictions: Path) -> bool:
    """Whether this version would train the classifier in the same way.

    Only asked of combined arms, which an earlier version trained differently, since it opens the file.
    """
    from skin_gan.ablation.predictions import load
    from skin_gan.ablation.runs import current

    try:
        return current(load(predictions).record)
    except SkinGanError:
        return False
