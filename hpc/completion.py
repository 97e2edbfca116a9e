"""Whether a job has anything left to do, judged by what is on disk. No torch."""

from __future__ import annotations

import itertools

from hpc.final import finished
from hpc.jobs import target
from hpc.plan import AFTER_SELECTION, FINAL, PREPARE, SEARCH, Job, Plan, unfinished
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
        of_now = record.get("target") == target(plan, job.stage)
        return of_now and record.get("started", 0.0) >= ended_before(plan, job)
    changed = [plan.run.settings.stat().st_mtime]
    changed += [f.state().get("updated", 0.0) for c in plan.experiment.classes for _, f in plan.trials(c)]
    return plan.run.leaderboard.exists() and record.get("ended", 0.0) > max(changed)


def ended_before(plan: Plan, job: Job) -> float:
    """When the last job of the stages before it ended, seconds since 1970; infinite where one has not."""
    stages = list(itertools.takewhile(lambda stage: stage.name != job.stage, plan.stages))
    records = [read_json(plan.run.jobs / f"{j.name}.json") or {} for stage in stages[2:] for j in stage.jobs]
    return max((r.get("ended", float("inf")) for r in records), default=0.0)
