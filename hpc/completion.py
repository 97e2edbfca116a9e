"""Whether a job has anything left to do, judged by what is on disk. No torch."""

from __future__ import annotations

import itertools
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpc import ablation
from hpc.final import finished
from hpc.jobs import target
from hpc.plan import (
    ABLATE,
    AFTER_SELECTION,
    COMBINE,
    FINAL,
    GENERATE,
    PREPARE,
    REPORT,
    SEARCH,
    Job,
    Plan,
    unfinished,
)
from skin_gan.errors import SkinGanError
from skin_gan.run import read_json


def complete(plan: Plan, job: Job) -> bool:
    """Whether the job has nothing left to do, judged by what is on disk."""
    record = read_json(plan.run.jobs / f"{job.name}.json") or {}
    if job.stage == SEARCH:
        last = plan.experiment.search.rungs[-1]
        return not any(unfinished(folder.state(), last) for _, folder in plan.trials_of(job))
    if job.stage == FINAL:
        return finished(plan, job.label)
    if record.get("state") != "done":
        return False
    if job.stage == PREPARE:
        return set(plan.experiment.classes) <= set(record.get("classes", []))
    if job.stage in AFTER_SELECTION:
        classes = plan.experiment.classes
        # the records of an earlier version do not say for which classes
        current = [record.get("target"), record.get("classes", classes)] == [target(plan, job.stage), classes]
        return current and record.get("started", 0.0) >= ended_before(plan, job) and left(plan, job, record)
    changed = [plan.run.settings.stat().st_mtime]
    changed += [f.state().get("updated", 0.0) for c in plan.experiment.classes for _, f in plan.trials(c)]
    return plan.run.leaderboard.exists() and record.get("ended", 0.0) > max(changed)


def left(plan: Plan, job: Job, record: dict[str, Any]) -> bool:
    """Whether what the job has made is still there, as far as a look at files' ends tells."""
    run, a = plan.run, plan.experiment.ablate
    if job.stage == REPORT:
        return (run.path / "report" / "index.html").exists()
    if job.stage == GENERATE:
        task = next(t for t in ablation.sample_tasks(a, plan.experiment.classes) if t.label == job.label)
        sets = (ablation.sample_folder(run, task.fold, source) for source in record.get("sets", []))
        return all((folder / task.lesion_class / "manifest.yaml").exists() for folder in sets)
    if job.stage not in (ABLATE, COMBINE):
        return True
    tasks = ablation.arm_tasks(a) if job.stage == ABLATE else ablation.combined_tasks(a)
    asked = next(t for t in tasks if t.label == job.label)
    if job.stage == COMBINE:
        try:
            chosen = ablation.choices(run, asked.classifier, a.folds).get(asked.fold or 0)
        except SkinGanError:  # damaged, or of an earlier version: written again
            chosen = None
        if chosen is None:
            return False
        if not chosen["combined"]:
            return True
        asked = replace(asked, arm=chosen["combined"])
    folders = [ablation.arm_folder(run, asked, seed) for seed in range(a.classifiers[asked.classifier].seeds)]
    parts = ("test",) if asked.fold is None else ("val", "test")
    if not all(zipfile.is_zipfile(folder / f"{part}.npz") for folder in folders for part in parts):
        return False
    return job.stage == ABLATE or all(of_this_version(folder / "test.npz") for folder in folders)


def of_this_version(predictions: Path) -> bool:
    """Whether this version would make the classifier run again as it was made.

    Asked of combined arms, the only ones that an earlier version has made otherwise: it opens the file.
    """
    from skin_gan.ablation.arms import current
    from skin_gan.ablation.predictions import load

    try:
        return current(load(predictions).record)
    except SkinGanError:
        return False


def ended_before(plan: Plan, job: Job) -> float:
    """When the last job of the stages before it ended, seconds since 1970; infinite where one has not."""
    stages = list(itertools.takewhile(lambda stage: stage.name != job.stage, plan.stages))
    records = [read_json(plan.run.jobs / f"{j.name}.json") or {} for stage in stages[2:] for j in stage.jobs]
    return max((r.get("ended", float("inf")) for r in records), default=0.0)
