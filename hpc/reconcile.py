"""What a launch gives to Slurm: what is wanted and neither done nor there already for these settings."""

from __future__ import annotations

import time
from pathlib import Path

from hpc import cluster, slurm, submissions
from hpc.completion import complete, target
from hpc.config import load
from hpc.jobstates import job_states
from hpc.plan import FINAL, PREPARE, SEARCH, Job, Plan
from hpc.submissions import Submission
from skin_gan.errors import SkinGanError
from skin_gan.io import read_json

SETTLING = 60.0  # seconds: Slurm leaves a job KillWait, 30 s by default, and its node's epilog takes some


def check_place(plan: Plan) -> None:
    """Stop if jobs of this sweep are in the queue of another cluster than the one chosen now."""
    if not plan.run.settings.exists():
        return
    before, now = load(plan.run.settings), plan.experiment
    if before.profile.kind != "slurm" or (now.profile.kind, now.profile.conf) == (
        "slurm",
        before.profile.conf,
    ):
        return
    # One cluster may go by several files, or by one in this shell and by none in another.
    here = slurm.queue(plan.run.path) if now.profile.kind == "slurm" else {}
    try:
        states, _ = job_states(plan.run, before.profile, {})
    finally:
        slurm.use(now.profile)
    if elsewhere := sum(state.alive and state.id not in here for state in states):
        raise SkinGanError(
            f"{elsewhere} jobs of this sweep are in the queue of cluster={before.cluster}: launch it there, "
            f"or first end them by `python hpc/steer.py cancel {plan.run.path}`"
        )


def submit(plan: Plan, wanted: list[Job], code: Path) -> tuple[list[Submission], list[Submission]]:
    """Give Slurm what is wanted and neither complete nor queued, each stage after the one before it.

    What is queued or runs for other settings is replaced, wanted or not. Returns the jobs that were queued
    or running already, and the new ones.
    """
    alive, known = settled(plan), submissions.latest(plan.run)
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


def settled(plan: Plan) -> dict[str, slurm.Queued]:
    """The sweep's queue, when Slurm has ended or requeued what it is cleaning up, or after `SETTLING`."""
    deadline, told = time.monotonic() + SETTLING, False
    while True:
        alive = slurm.queue(plan.run.path)
        ending = sum(job.state == slurm.COMPLETING for job in alive.values())
        if not ending or time.monotonic() > deadline:
            return alive
        if not told:
            print(f"Slurm is ending or requeueing jobs ({ending}): waiting for that", flush=True)
            told = True
        time.sleep(2.0)


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
