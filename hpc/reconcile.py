"""What a launch gives to Slurm: what is wanted and neither done nor there already for these settings."""

from __future__ import annotations

from pathlib import Path

from hpc import cluster, slurm, submissions
from hpc.completion import complete
from hpc.jobs import target
from hpc.plan import FINAL, PREPARE, SEARCH, Job, Plan
from hpc.submissions import Submission
from skin_gan.run import read_json


def submit(plan: Plan, wanted: list[Job], code: Path) -> tuple[list[Submission], list[Submission]]:
    """Give Slurm what is wanted and neither complete nor queued, each stage after the one before it.

    What is queued or runs for other settings is replaced, wanted or not. Returns the jobs that were queued
    or running already, and the new ones.
    """
    alive, known = slurm.queue(plan.run.path), submissions.latest(plan.run)
    before: list[Submission] = []
    new: list[Submission] = []
    chosen = set(wanted)
    for stage in plan.stages:
        live = {
            job: known[job.name] for job in stage.jobs if job.name in known and known[job.name].id in alive
        }
        stale = {job: s for job, s in live.items() if out_of_date(plan, job, alive[s.id], bool(new))}
        slurm.cancel(s.id for s in stale.values() if alive[s.id].state == slurm.PENDING)
        kept = {job: s for job, s in live.items() if job not in stale}
        todo = [
            job
            for job in stage.jobs
            if (job in chosen or job in stale)
            and job not in kept
            and (not complete(plan, job) or needed(job, before))
        ]
        running = [s for s in stale.values() if alive[s.id].state != slurm.PENDING]
        made = cluster.submit_stage(plan, stage, todo, code, after=[*before, *running])
        before += [*kept.values(), *running, *made]
        new += made
    made_now = set(new)
    return [s for s in before if s not in made_now], new


def out_of_date(plan: Plan, job: Job, queued: slurm.Queued, renewed: bool) -> bool:
    """Whether a queued or running job cannot do all that is wanted now, so that another must follow it."""
    if renewed and job.stage not in (PREPARE, SEARCH):
        return True  # it must wait for the new jobs too
    if queued.state == slurm.COMPLETING:
        return True  # it has ended, perhaps before its work had; Slurm is cleaning up
    record = read_json(plan.run.jobs / f"{job.name}.json") or {}
    running = queued.state != slurm.PENDING and record.get("state") == "running"
    return job.stage in (SEARCH, FINAL) and running and record.get("target") != target(plan, job.stage)


def needed(job: Job, before: list[Submission]) -> bool:
    """Whether a job that is complete now will not be when the jobs before it have ended."""
    return job.stage not in (PREPARE, SEARCH) and bool(before)
