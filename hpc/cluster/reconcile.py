"""Submits the jobs that are neither complete nor queued for these settings."""

from __future__ import annotations

import time
from pathlib import Path

from hpc.cluster import executor
from hpc.plan.sweep_plan import BEFORE_SELECTION, FINAL, SEARCH, Job, Plan
from hpc.settings.compose import Experiment
from hpc.slurm import client
from hpc.slurm.job_states import Queue, ask
from hpc.state.completion import complete, target
from hpc.state.snapshot import Record, Snapshot, of_plan
from hpc.state.submissions import Submission
from skin_gan.errors import SkinGanError

SETTLING = 60.0  # seconds: Slurm leaves a job KillWait, 30 s by default, and its node's epilog takes some


def look(plan: Plan) -> tuple[Queue, Snapshot]:
    """The sweep's queue, which is empty on this machine, and its snapshot. Unreachable if Slurm is."""
    queue = reached(plan) if plan.experiment.profile.kind == "slurm" else Queue()
    return queue, of_plan(plan)


def reached(plan: Plan) -> Queue:
    """The sweep's queue. Unreachable if Slurm cannot be asked."""
    queue = ask(plan.run, plan.experiment.profile)
    if queue.trouble:
        raise client.Unreachable(queue.trouble)
    return queue


def check_place(plan: Plan, before: Experiment | None) -> None:
    """SkinGanError if jobs of this sweep are in the queue of another cluster than the one chosen now.

    `before`: the settings of the sweep's last launch.
    """
    now = plan.experiment
    if before is None or before.profile.kind != "slurm":
        return
    if (now.profile.kind, now.profile.conf) == ("slurm", before.profile.conf):
        return
    # One cluster may go by several files, or by one in this shell and by none in another.
    here = client.queue(plan.run.path) if now.profile.kind == "slurm" else {}
    try:
        there = ask(plan.run, before.profile)
    finally:
        client.use(now.profile)
    if elsewhere := sum(s.id in there.alive and s.id not in here for s in there.submitted):
        raise SkinGanError(
            f"{elsewhere} jobs of this sweep are in the queue of cluster={before.cluster}: launch it there, "
            f"or first end them by `python hpc/steer.py cancel {plan.run.path}`"
        )


def submit(
    plan: Plan, wanted: list[Job], code: Path, queue: Queue, s: Snapshot
) -> tuple[list[Submission], list[Submission]]:
    """Submit the wanted jobs that are neither complete nor queued, each stage after the one before it.

    What is queued or runs for other settings is replaced, wanted or not. Returns the jobs that were queued
    or running already, and the new ones.
    """
    queue, s = settled(plan, queue, s)
    alive, known = queue.alive, queue.latest
    before: list[Submission] = []
    new: list[Submission] = []
    chosen = set(wanted)
    for stage in plan.stages:
        live = {
            job: known[job.name] for job in stage.jobs if job.name in known and known[job.name].id in alive
        }
        stale = {
            job: given
            for job, given in live.items()
            if out_of_date(plan, job, s.record(job), alive[given.id], bool(new))
        }
        client.cancel(given.id for given in stale.values() if alive[given.id].state == client.PENDING)
        kept = {job: given for job, given in live.items() if job not in stale}
        todo = [
            job
            for job in stage.jobs
            if (job in chosen or job in stale)
            and job not in kept
            and (not complete(plan, job, s) or needed(job, before))
        ]
        running = [given for given in stale.values() if alive[given.id].state != client.PENDING]
        made = executor.submit_stage(plan, stage, todo, code, after=[*before, *running])
        before += [*kept.values(), *running, *made]
        new += made
    made_now = set(new)
    return [given for given in before if given not in made_now], new


def settled(plan: Plan, queue: Queue, s: Snapshot) -> tuple[Queue, Snapshot]:
    """Wait until Slurm has ended or requeued what it is cleaning up, at most `SETTLING`; then look again."""
    deadline, now = time.monotonic() + SETTLING, queue
    while (ending := now.ending) and time.monotonic() < deadline:
        if now is queue:
            print(f"Slurm is ending or requeueing jobs ({ending}): waiting for that", flush=True)
        time.sleep(2.0)
        now = reached(plan)
    return now, s if now is queue else of_plan(plan)


def out_of_date(plan: Plan, job: Job, record: Record, queued: client.Queued, renewed: bool) -> bool:
    """Whether a queued or running job cannot do all that is wanted now, so that another must follow it."""
    if renewed and job.stage not in BEFORE_SELECTION:
        return True  # it must wait for the new jobs too
    if queued.state == client.COMPLETING:
        return True  # it has ended, perhaps before its work had; Slurm is cleaning up
    running = queued.state != client.PENDING and record.get("state") == "running"
    return job.stage in (SEARCH, FINAL) and running and record.get("target") != target(plan, job.stage)


def needed(job: Job, before: list[Submission]) -> bool:
    """Whether a job that is complete now will not be when the jobs before it have ended."""
    return job.stage not in BEFORE_SELECTION and bool(before)
